"""Every difference that docs/migrating.md lists is one, and is as it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from protosocket_rpc.service import options

HERE = Path(__file__).parent
DOC = (ROOT / "docs" / "migrating.md").read_text()

# With grpcio, and here.
EXPECTED: dict[str, tuple[Any, Any]] = {
    "text_of_an_exception": (["UNKNOWN", True], ["UNKNOWN", False]),
    "handler_that_raises_cancelled_error": ("DEADLINE_EXCEEDED", "CANCELLED"),
    "stop_and_the_ends_of_handlers": (
        ["stopped", "the handler has ended"],
        ["the handler has ended", "stopped"],
    ),
    "request_iterator_that_raises": ("CancelledError", "ValueError"),
    "interceptor_of_several_kinds": (["unary"], ["unary", "stream"]),
    "metadata_that_cannot_be_sent": ("ExecuteBatchError", "ValueError"),
    "text_of_an_error": (
        "<AioRpcError of RPC that terminated with:",
        "UNIMPLEMENTED: Method not found!",
    ),
    "metadata_of_a_context": (["tuple", True], ["Metadata", False]),
    "code_of_a_context_that_has_none": (None, "OK"),
    "deadline_of_a_call_in_a_handler": ("False", "True"),
    "details_of_no_connection": (
        ["UNAVAILABLE", "NoneType"],
        ["UNAVAILABLE", "ConnectionRefusedError"],
    ),
    "wait_for_connection_of_a_unary_call": (False, True),
    "done_callbacks": (1, 0),
    "read_after_a_cancelled_iteration": ("CancelledError", "UsageError"),
    "compression_of_a_single_reply": ("not compressed", "compressed"),
    "peer_of_ipv6": ("ipv6:%5B::1%5D", "ipv6:[::1]"),
    "target_without_a_port": (None, "ValueError"),
    "two_servers_on_one_port": ("shared", "RuntimeError"),
    "name_server_of_a_target": (None, "ValueError"),
    "method_called_as_another_kind": (
        "request",
        [
            "AioRpcError",
            "UNIMPLEMENTED",
            "the method is unary-unary, and was called as another kind",
        ],
    ),
    "blocked_event_loop": ("OK", "UNAVAILABLE"),
    "blocking_api": (None, "UsageError"),
}


def run(mode: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, HERE / "programs" / "run.py", mode, HERE / "differences.py"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(HERE)))},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    return results


@pytest.fixture(scope="module")
def results() -> tuple[dict[str, Any], dict[str, Any]]:
    return run("grpcio"), run("switch")


@pytest.mark.parametrize("name", EXPECTED)
def test_differs_as_expected(name: str, results: tuple[Any, Any]) -> None:
    grpcio, ours = results
    assert (grpcio[name], ours[name]) == EXPECTED[name]
    assert grpcio[name] != ours[name]


def test_the_table_has_a_row_for_each(results: tuple[Any, Any]) -> None:
    rows = re.findall(r"^\| .*<!-- (\w+) --> \|.*\|.*\|$", DOC, re.MULTILINE)
    assert rows == list(EXPECTED)
    assert set(results[0]) == set(results[1]) == set(EXPECTED)


def test_options_that_have_an_effect() -> None:
    """The table names those that the code does."""
    table = DOC[DOC.index("| channel | server |") :]
    listed = set(re.findall(r"grpc\.\w+", table))
    source = Path(options.__file__).read_text()
    assert listed == set(re.findall(r'"(grpc\.\w+)"', source))
