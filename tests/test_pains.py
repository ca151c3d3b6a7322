"""What users of Python RPC complain about most, and the tests that show this project's answers.

A table, so that no answer loses its tests unnoticed: each must name tests that exist.
"""

from __future__ import annotations

import ast

import pytest
from support import ROOT

PAINS = {
    "generated imports only work with the output folder on sys.path": [
        "test_codegen_generate.py::test_a_folder_becomes_a_package",
        "test_codegen_generate.py::test_messages_import_each_other_as_asked",
    ],
    "generated code has no types": [
        "test_codegen_typing.py::test_programs_are_checked",
        "test_codegen_typing.py::test_every_case_is_typed",
    ],
    "forked children hang, crash, or disturb their parent": [
        "connectivity/test_loops.py::test_forked_children_have_connections_of_their_own",
        "connectivity/test_loops.py::test_a_child_does_not_keep_its_parents_connection_open",
        "connectivity/test_loops.py::test_children_of_a_server_hold_neither_connections_nor_ports",
    ],
    "a channel is bound to the event loop of its creation": [
        "connectivity/test_loops.py::test_a_channel_needs_no_loop_to_be_made",
        "connectivity/test_loops.py::test_threads_share_a_channel",
        "connectivity/test_loops.py::test_a_call_outside_of_a_loop_says_so",
    ],
    "memory grows": [
        "service/test_memory.py::test_no_cycles",
        "service/test_memory.py::test_memory_of_many",
        "service/test_memory.py::test_a_lost_connection_leaves_nothing",
    ],
    "cancellation is ambiguous": [
        "service/test_ends_once.py::test_every_call_ends_exactly_once",
        "service/test_calls.py::test_a_server_that_cancels",
        "service/test_handlers.py::test_an_async_generator_is_closed_in_its_own_context_and_task",
    ],
    "errors in request iterators are hidden": [
        "service/test_call_objects.py::test_what_an_iterator_raises_the_call_raises",
        "api/test_interceptors.py::test_error_in_the_request_iterator_is_what_the_call_raises",
    ],
    "an interceptor serves one kind, and sees neither reply nor status": [
        "api/test_interceptors.py::test_one_function_sees_all_of_every_kind",
        "api/test_interceptors.py::test_failure_of_every_kind_is_seen",
        "api/test_interceptors.py::test_server_sees_the_status_that_an_exception_becomes",
    ],
    "it is slow, and slower the more methods there are": [
        "test_benchmarks.py::test_a_run_measures_real_peers",
        "service/test_dispatch.py::test_dispatch_does_not_slow_down_with_the_number_of_methods",
    ],
    "no load balancing in Kubernetes": [
        "connectivity/test_connecting.py::test_calls_take_turns",
        "connectivity/test_connecting.py::test_a_name_with_several_addresses_is_balanced",
        "connectivity/test_connecting.py::test_a_name_is_looked_up_again",
    ],
    "dead connections go unnoticed, and keepalive is punished": [
        "connectivity/test_keepalive.py::test_a_server_that_stops_answering_is_found",
        "connectivity/test_keepalive.py::test_a_client_that_stops_answering_is_found",
        "connectivity/test_keepalive.py::test_a_quiet_peer_is_asked_and_kept",
        "connectivity/test_retries.py::test_a_call_that_never_left_is_tried_again",
    ],
    "errors do not say what happened": [
        "connectivity/test_errors.py::test_refused",
        "connectivity/test_errors.py::test_lost_in_flight",
        "connectivity/test_errors.py::test_every_error_is_picklable",
    ],
    "lines on stderr that nobody asked for": [
        "test_output.py::test_nothing_is_written_that_nobody_asked_for",
        "test_output.py::test_loggers_are_those_of_the_standard_library",
        "connectivity/test_loops.py::test_forked_children_have_connections_of_their_own",
    ],
    "shutdown loses calls and leaves handlers behind": [
        "connectivity/test_shutdown.py::test_stop_cancels_what_is_left_and_awaits_it",
        "connectivity/test_shutdown.py::test_a_signal_ends_a_server_when_its_rpcs_have_ended",
        "connectivity/test_shutdown.py::test_a_rolling_restart_loses_no_call",
    ],
    "it does not install": [
        "test_codegen_install.py::test_from_a_wheel",
        "test_codegen_install.py::test_from_a_clone",
    ],
    "versions of protobuf conflict": [
        "test_protobuf_versions.py::test_the_runtime_has_no_generated_message_code",
        "test_protobuf_versions.py::test_the_runtime_takes_little_of_protobuf",
        "test_protobuf_versions.py::test_generated_service_code_has_no_version_check",
        "test_protobuf_versions.py::test_calls_without_protobuf",
    ],
    "a size limit breaks more than one call, and does not say whose it is": [
        "service/test_calls.py::test_a_request_above_the_servers_limit",
        "service/test_calls.py::test_a_reply_above_the_clients_limit",
        "service/test_calls.py::test_trailers_above_all_limits",
    ],
    "large messages hold up small ones; streams are capped at 100": [
        "service/test_streams.py::test_64_mib_do_not_hold_up_small_calls",
        "service/test_calls.py::test_a_thousand_streams_at_a_time",
        "connectivity/test_connecting.py::test_connections_per_address",
    ],
    "there is no test kit": [
        "kit/test_pair.py::test_a_stream_that_is_not_read_stops_its_handler",
        "kit/test_endings.py::test_what_came_before_the_cut_is_delivered",
        "kit/test_faults.py::test_keepalive_finds_out",
        "kit/test_virtual_time.py::test_deadlines",
        "kit/test_docs.py::test_everything_public_is_on_the_page",
    ],
    "neither deadline nor cancellation reaches the next hop": [
        "connectivity/test_propagation.py::test_the_deadline_ends_every_hop",
        "connectivity/test_propagation.py::test_cancelling_a_call_cancels_every_hop",
        "connectivity/test_propagation.py::test_calls_of_threads_share_the_fate_of_the_rpc",
        "connectivity/test_propagation.py::test_detached_calls_inherit_nothing",
    ],
}


@pytest.mark.parametrize("pain", PAINS)
def test_each_answer_has_its_tests(pain: str) -> None:
    for test in PAINS[pain]:
        path, _, name = test.partition("::")
        tree = ast.parse((ROOT / "tests" / path).read_bytes())
        functions = ast.FunctionDef | ast.AsyncFunctionDef
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, functions)}, test
