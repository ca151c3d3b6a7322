"""The peers, in the order of the tables. Each is an entry here and one module or directory."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

from benchmarks.peer import MixedPeer, NativePeer, Peer, PythonPeer
from benchmarks.targets import COMPILED, PURE
from benchmarks.workloads import SETUPS, STREAMS, UNARY

BASELINE = "grpc.aio"
FLOOR = "uvloop echo"
FROM_RUST = "Rust client, Python server"

_IS_PURE = "protosocket_rpc.wire.frame.__file__.endswith('.py')"

_PROTOSOCKET = PythonPeer(
    COMPILED,
    UNARY | STREAMS | SETUPS | {"busy_poll", "pool"},
    module="protosocket",
    requirements=(".", "protobuf", "uvloop"),
    imports="protosocket_rpc, protosocket_rpc.wire.frame",
    protoc=(
        "--python_out={out}",
        "--plugin=protoc-gen-protosocket={here}/protoc-gen-protosocket",
        "--protosocket_out={out}",
        "--protosocket_opt=imports=absolute",
    ),
    settings=(("PROTOSOCKET_ACCELERATE", "1"),),
    condition=f"not {_IS_PURE}",
    otherwise="its accelerator was not built",
    build="protosocket_rpc.build_info()",
)

_PROTOSOCKET_PURE = replace(
    _PROTOSOCKET,
    name=PURE,
    settings=(("PROTOSOCKET_ACCELERATE", "0"),),
    condition=_IS_PURE,
    otherwise="its accelerator was built although it should not be",
)

_CONNECT = PythonPeer(
    "connect-py, granian",
    UNARY | STREAMS | {"tls", "interceptor"},
    module="connect_granian",
    requirements=("connectrpc", "granian[uvloop]", "uvloop"),
    imports="connectrpc.client, connectrpc.server, protobuf",
    tools=("protoc-gen-connectrpc", "protoc-gen-py"),
    protoc=(
        "--plugin=protoc-gen-py={bin}/protoc-gen-py",
        "--py_out={out}/connect_stubs",
        "--plugin=protoc-gen-connectrpc={bin}/protoc-gen-connectrpc",
        "--connectrpc_out={out}/connect_stubs",
    ),
)

_RUST = frozenset({"unary", "size", "connections", "server_stream"})
_PROTOSOCKET_RUST = NativePeer(
    "protosocket, Rust",
    _RUST,
    directory="rust",
    commands=("make", "cargo"),
    program="protosocket_",
    libraries="protosocket-rpc|prost",
)
_TONIC = NativePeer(
    "tonic",
    _RUST,
    directory="rust",
    commands=("make", "cargo"),
    program="tonic_",
    libraries="tonic|prost",
)
_TO_RUST = MixedPeer(
    "Python client, Rust server", _RUST, server=_PROTOSOCKET_RUST, client=_PROTOSOCKET
)
_FROM_RUST = MixedPeer(FROM_RUST, _RUST, server=_PROTOSOCKET, client=_PROTOSOCKET_RUST)

PEERS: list[Peer] = [
    _PROTOSOCKET,
    _PROTOSOCKET_PURE,
    PythonPeer(
        "grpc.aio",
        UNARY | STREAMS | SETUPS,
        module="grpc_aio",
        requirements=("grpcio", "protobuf", "uvloop"),
        imports="grpc.aio, google.protobuf.message",
        protoc=("--python_out={out}", "--grpc_python_out={out}"),
    ),
    PythonPeer(
        "grpcio, threads",
        UNARY | STREAMS | SETUPS,
        module="grpc_threads",
        requirements=("grpcio", "protobuf"),
        imports="grpc, google.protobuf.message",
        protoc=("--python_out={out}", "--grpc_python_out={out}"),
    ),
    PythonPeer(
        "grpclib",
        UNARY - {"held"} | STREAMS | SETUPS,  # no more than 100 calls are in flight at a time
        module="grpclib_peer",
        requirements=("grpclib", "protobuf", "uvloop"),
        imports="grpclib.client, grpclib.server, google.protobuf.message",
        protoc=(
            "--python_out={out}",
            "--plugin=protoc-gen-grpclib_python={bin}/protoc-gen-grpclib_python",
            "--grpclib_python_out={out}",
        ),
    ),
    _CONNECT,
    replace(
        _CONNECT,
        name="connect-py, pyvoy",
        module="connect_pyvoy",
        requirements=("connectrpc", "pyvoy", "uvloop"),
    ),
    PythonPeer(
        "pycapnp",
        UNARY - {"metadata", "deadline"} | {"tls", "unix"},
        module="capnp_peer",
        requirements=("pycapnp",),
        imports="capnp",
    ),
    PythonPeer(
        "thriftpy2",
        frozenset({"unary", "size", "open", "burn", "tls", "unix"}),
        module="thrift_peer",
        requirements=("thriftpy2", "uvloop"),
        imports="thriftpy2.contrib.aio.client",
    ),
    NativePeer(
        "gRPC C++",
        UNARY | STREAMS | {"tls", "unix"},
        directory="cpp",
        commands=("make", "g++", "pkg-config", "protoc", "grpc_cpp_plugin"),
        packages=("libgrpc++-dev", "protobuf-compiler-grpc", "pkg-config", "g++", "make"),
    ),
    NativePeer(
        "gRPC Go",
        UNARY | STREAMS | SETUPS,
        directory="go",
        commands=("make", "go"),
    ),
    _PROTOSOCKET_RUST,
    _TO_RUST,
    _FROM_RUST,
    _TONIC,
    PythonPeer(
        "uvloop echo",
        frozenset({"unary", "size", "connections", "tls", "unix"}),
        module="uvloop_echo",
        requirements=("uvloop",),
        imports="uvloop",
    ),
    NativePeer(
        "C echo",
        frozenset({"unary", "connections", "unix"}),
        directory="c",
        commands=("make", "cc"),
    ),
]

# Both languages on both sides, and both builds of ours.
PAIRS: list[Peer] = [
    _FROM_RUST,
    replace(_FROM_RUST, name=f"{_FROM_RUST.name}, pure Python", server=_PROTOSOCKET_PURE),
    _TO_RUST,
    replace(_TO_RUST, name=f"{_TO_RUST.name}, pure Python", client=_PROTOSOCKET_PURE),
    _PROTOSOCKET,
    _PROTOSOCKET_PURE,
    _PROTOSOCKET_RUST,
    _TONIC,
]


def active_build() -> str:
    """The name of the protosocket peer that the running interpreter has. ImportError without."""
    frame = importlib.util.find_spec("protosocket_rpc.wire.frame")
    if frame is None or frame.origin is None:
        raise ImportError("protosocket_rpc is not installed")
    return PURE if frame.origin.endswith(".py") else COMPILED
