"""The names and the arguments of ``grpc`` and ``grpc.aio``, held against grpcio itself."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections import namedtuple
from typing import Any

import grpc as real
import grpc.aio as real_aio
import pytest
from support import ROOT

import protosocket_rpc
from protosocket_rpc.compat import grpc
from protosocket_rpc.compat.grpc import aio, missing

# -- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", real_aio.__all__)
def test_every_name_of_grpc_aio(name: str) -> None:
    assert hasattr(aio, name)
    assert name in aio.__all__


@pytest.mark.parametrize("name", real.__all__)
def test_every_name_of_grpc(name: str) -> None:
    assert hasattr(grpc, name)
    assert name in grpc.__all__


@pytest.mark.parametrize("name", missing.FUNCTIONS)
def test_functions_that_say_what_to_use_instead(name: str) -> None:
    assert callable(getattr(real, name))
    with pytest.raises(aio.UsageError, match=rf"^grpc\.{name} \w+ .*: "):
        getattr(grpc, name)("localhost:1")


def test_names_of_the_blocking_api_are_there_to_derive_from() -> None:
    for name in (*missing.CLASSES, "FutureTimeoutError", "FutureCancelledError"):
        assert isinstance(getattr(real, name), type)
        assert isinstance(type("Derived", (getattr(grpc, name),), {}), type)
        assert getattr(grpc, name) is not getattr(aio, name, None)


@pytest.mark.parametrize("module", [real, grpc], ids=["grpcio", "compat"])
def test_blocking_interceptors_are_refused(module: Any) -> None:
    class Blocking(module.ServerInterceptor, module.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # Any
        def intercept_service(self, continuation: Any, details: Any) -> Any: ...

        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any: ...

    with pytest.raises(ValueError, match="no server interceptor"):
        aio.server(interceptors=[Blocking()])
    with pytest.raises(ValueError, match="no client interceptor"):
        aio.insecure_channel("localhost:1", interceptors=[Blocking()])


def test_names_that_nobody_knows() -> None:
    for module in (grpc, grpc.experimental):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            module.nothing  # noqa: B018  # the point


def test_static_methods_of_generated_code_say_what_to_use_instead() -> None:
    for name in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
        with pytest.raises(aio.UsageError, match="blocking API"):
            getattr(grpc.experimental, name)(b"", "localhost:1", "/s/m", insecure=True)


@pytest.mark.parametrize("name", ["StatusCode", "ChannelConnectivity"])
def test_enums(name: str) -> None:
    ours, theirs = getattr(grpc, name), getattr(real, name)
    assert [(each.name, each.value) for each in ours] == [
        (each.name, each.value) for each in theirs
    ]


def test_compression_has_one_more() -> None:
    theirs = [(each.name, int(each)) for each in real.Compression]
    assert [(each.name, int(each)) for each in grpc.Compression] == [*theirs, ("Zstd", 3)]


def test_same_classes_as_the_native_api() -> None:
    """No second implementation: what both have is one and the same."""
    both = set(protosocket_rpc.__all__) & (set(grpc.__all__) | set(aio.__all__))
    assert len(both) > 50
    for name in both:
        ours = getattr(protosocket_rpc, name)
        if name in _OF_SEVERAL_IMPLEMENTATIONS:
            assert issubclass(ours, getattr(aio, name))
        else:
            candidates = [getattr(module, name, None) for module in (grpc, aio)]
            assert any(ours is each for each in candidates), name


# With interceptors and without.
_OF_SEVERAL_IMPLEMENTATIONS = {
    f"{requests}{replies}Call"
    for requests in ("Unary", "Stream")
    for replies in ("Unary", "Stream")
}

# -- arguments -----------------------------------------------------------------------------


def parameters(function: Any) -> list[tuple[str, Any]]:
    return [
        (each.name, each.default)
        for each in inspect.signature(function).parameters.values()
        if each.name != "self"
    ]


FUNCTIONS = [
    *(f"aio.{name}" for name in ("insecure_channel", "secure_channel", "server")),
    *(
        f"{name}_rpc_method_handler"
        for name in ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
    ),
    "method_handlers_generic_handler",
    "ssl_channel_credentials",
    "ssl_server_credentials",
    "ssl_server_certificate_configuration",
    "dynamic_ssl_server_credentials",
    "metadata_call_credentials",
    "access_token_call_credentials",
    "composite_call_credentials",
    "composite_channel_credentials",
    "insecure_server_credentials",
]


def find(root: Any, path: str) -> Any:
    for name in path.split("."):
        root = getattr(root, name)
    return root


@pytest.mark.parametrize("path", FUNCTIONS)
def test_arguments_of_functions(path: str) -> None:
    theirs = parameters(find(real, path))
    assert parameters(find(grpc, path))[: len(theirs)] == theirs


def test_arguments_of_local_credentials() -> None:
    for name in ("local_channel_credentials", "local_server_credentials"):
        ((name_, default),) = parameters(getattr(grpc, name))
        assert (name_, default.name) == ("local_connect_type", "LOCAL_TCP")


METHODS = {
    "Channel": [
        "close",
        "get_state",
        "wait_for_state_change",
        "channel_ready",
        "unary_unary",
        "unary_stream",
        "stream_unary",
        "stream_stream",
    ],
    "Server": [
        "add_generic_rpc_handlers",
        "add_registered_method_handlers",
        "add_insecure_port",
        "add_secure_port",
        "start",
        "stop",
        "wait_for_termination",
    ],
    "ServicerContext": [
        "read",
        "write",
        "send_initial_metadata",
        "abort",
        "abort_with_status",
        "set_trailing_metadata",
        "trailing_metadata",
        "invocation_metadata",
        "set_code",
        "code",
        "set_details",
        "details",
        "set_compression",
        "disable_next_message_compression",
        "peer",
        "peer_identities",
        "peer_identity_key",
        "auth_context",
        "time_remaining",
        "add_done_callback",
        "cancelled",
        "done",
    ],
    "UnaryUnaryMultiCallable": ["__call__"],
    "UnaryStreamMultiCallable": ["__call__"],
    "StreamUnaryMultiCallable": ["__call__"],
    "StreamStreamMultiCallable": ["__call__"],
    "ServerInterceptor": ["intercept_service"],
    "UnaryUnaryClientInterceptor": ["intercept_unary_unary"],
    "UnaryStreamClientInterceptor": ["intercept_unary_stream"],
    "StreamUnaryClientInterceptor": ["intercept_stream_unary"],
    "StreamStreamClientInterceptor": ["intercept_stream_stream"],
    "Metadata": [
        "from_tuple",
        "add",
        "delete_all",
        "get_all",
        "set_all",
        "get",
        "keys",
        "values",
        "items",
    ],
    "AioRpcError": [
        "code",
        "details",
        "initial_metadata",
        "trailing_metadata",
        "debug_error_string",
    ],
}


@pytest.mark.source
@pytest.mark.parametrize(
    ("kind", "method"), [(kind, method) for kind, names in METHODS.items() for method in names]
)
def test_arguments_of_methods(kind: str, method: str) -> None:
    ours = parameters(getattr(getattr(aio, kind), method))
    own = getattr(real_aio, kind)
    if not hasattr(own, method):  # in the base that users may see, but not on the abstract class
        pytest.fail(f"grpcio has no {kind}.{method}")
    theirs = [name for name, _ in parameters(getattr(own, method))]
    assert [name for name, _ in ours][: len(theirs)] == theirs
    for (name, default), (_, expected) in zip(ours, parameters(getattr(own, method)), strict=False):
        # What may be left out there may be left out here, and means the same: nothing.
        assert expected is inspect.Parameter.empty or (expected or None) == (default or None), name
    required = [name for name, default in ours if default is inspect.Parameter.empty]
    assert len(required) <= len(theirs)


CALLS: dict[str, list[str]] = {
    "UnaryUnaryCall": ["__await__"],
    "UnaryStreamCall": ["__aiter__", "read"],
    "StreamUnaryCall": ["__await__", "write", "done_writing"],
    "StreamStreamCall": ["__aiter__", "read", "write", "done_writing"],
}
COMMON = [
    "cancelled",
    "done",
    "time_remaining",
    "cancel",
    "add_done_callback",
    "initial_metadata",
    "trailing_metadata",
    "code",
    "details",
    "wait_for_connection",
    "debug_error_string",
]


@pytest.mark.parametrize("kind", CALLS)
def test_surface_of_calls_with_and_without_interceptors(kind: str) -> None:
    from protosocket_rpc.service import intercepted

    for cls in (getattr(protosocket_rpc, kind), getattr(intercepted, f"Intercepted{kind}")):
        assert issubclass(cls, getattr(aio, kind))
        for method in [*COMMON, *CALLS[kind]]:
            assert hasattr(cls, method), method


# -- classes that users derive from --------------------------------------------------------


def test_classes_that_users_derive_named_tuples_from() -> None:
    """As the official examples do."""

    class Details(
        namedtuple("Details", ("method", "timeout", "metadata", "credentials")),
        grpc.ClientCallDetails,  # type: ignore[misc]  # two tuples
    ):
        pass

    class Status(
        namedtuple("Status", ("code", "details", "trailing_metadata")),
        grpc.Status,
    ):
        pass

    assert Details(1, 2, 3, 4)[:4] == (1, 2, 3, 4)
    assert Status(1, 2, 3) == (1, 2, 3)
    assert isinstance(Status(1, 2, 3), grpc.Status)


async def test_handlers_of_grpcio_are_served_as_they_are() -> None:
    async def echo(request: bytes, context: Any) -> bytes:
        return request

    server = aio.server()
    handlers = {"uu": real.unary_unary_rpc_method_handler(echo)}
    generic = real.method_handlers_generic_handler("pkg.Generic", handlers)
    server.add_generic_rpc_handlers((generic,))
    server.add_registered_method_handlers("pkg.Registered", handlers)
    port = server.add_insecure_port("localhost:0")
    await server.start()
    async with aio.insecure_channel(f"localhost:{port}") as channel:
        for service in ("Generic", "Registered"):
            call = channel.unary_unary(f"/pkg.{service}/uu")
            assert await call(service.encode()) == service.encode()
    await server.stop(None)


# -- the switch ----------------------------------------------------------------------------


def python(code: str) -> str:
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_switch_puts_it_in_the_place_of_grpc() -> None:
    output = python(
        "import protosocket_rpc.compat.grpc as ours\n"
        "ours.install(); ours.install()\n"
        "import grpc, grpc.aio, grpc.experimental\n"
        "from grpc.experimental import aio as alias\n"
        "assert alias is grpc.aio\n"
        "import grpc_status.rpc_status\n"
        "from grpc_status import rpc_status\n"
        "assert rpc_status.__name__.startswith('protosocket_rpc.')\n"
        "from grpc import aio\n"
        "from grpc._utilities import first_version_is_lower\n"
        "assert grpc is ours and aio is ours.aio is grpc.aio\n"
        "assert not first_version_is_lower(grpc.__version__, '99.0.0')\n"
        "print(grpc.aio.insecure_channel('localhost:1'))"
    )
    assert output == "<Channel to localhost:1 IDLE>"


def test_switch_comes_too_late_once_grpcio_was_imported() -> None:
    output = python(
        "import grpc\n"
        "import protosocket_rpc.compat.grpc as ours\n"
        "try: ours.install()\n"
        "except RuntimeError as error: print(error)"
    )
    assert "grpcio was imported already" in output


def test_grpcio_is_not_needed() -> None:
    python(
        "import sys; sys.modules['grpc'] = None\n"
        "from protosocket_rpc.compat import grpc\n"
        "from protosocket_rpc.compat.grpc import aio\n"
        "import protosocket_rpc.compat.grpc_status"
    )


@pytest.mark.parametrize("module", ["dual_server", "fallback"])
def test_serving_and_calling_by_grpc_need_it(module: str) -> None:
    attempt = (
        f"try: import protosocket_rpc.compat.{module}\nexcept ImportError as error: print(error)"
    )
    assert "pip install 'protosocket-rpc[grpc]'" in python(
        f"import sys; sys.modules['grpc'] = None\n{attempt}"
    )
    assert "install() has put another module in the place of grpc" in python(
        f"import protosocket_rpc.compat.grpc as ours; ours.install()\n{attempt}"
    )


def test_versions() -> None:
    assert grpc.__version__.split(".")[0] == real.__version__.split(".")[0]
