"""The peers, in the order of the tables. Each is an entry here and one module or directory."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.peer import NativePeer, Peer, PythonPeer
from benchmarks.targets import COMPILED, PURE
from benchmarks.workloads import SETUPS, STREAMS, UNARY

BASELINE = "grpc.aio"
FLOOR = "uvloop echo"

_PROTOSOCKET = PythonPeer(
    COMPILED,
    UNARY | STREAMS | {"unix", "wide"},
    module="protosocket",
    requirements=(".", "protobuf", "uvloop"),
    imports="protosocket_rpc",
    protoc=(
        "--python_out={out}",
        "--plugin=protoc-gen-protosocket={here}/protoc-gen-protosocket",
        "--protosocket_out={out}",
        "--protosocket_opt=imports=absolute",
    ),
)

PEERS: list[Peer] = [
    _PROTOSOCKET,
    replace(_PROTOSOCKET, name=PURE, settings=(("PROTOSOCKET_PURE", "1"),)),
    PythonPeer(
        "grpc.aio",
        UNARY | STREAMS | SETUPS,
        module="grpc_aio",
        requirements=("grpcio", "protobuf", "uvloop"),
        imports="grpc.aio, google.protobuf.message",
        protoc=("--python_out={out}", "--grpc_python_out={out}"),
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
    PythonPeer(
        "uvloop echo",
        frozenset({"unary", "size", "tls", "unix"}),
        module="uvloop_echo",
        requirements=("uvloop",),
        imports="uvloop",
    ),
]
