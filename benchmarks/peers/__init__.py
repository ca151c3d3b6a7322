"""The peers, in the order of the tables. Each is an entry here and one module or directory."""

from __future__ import annotations

from benchmarks.peer import Peer, PythonPeer
from benchmarks.workloads import SETUPS, STREAMS, UNARY

BASELINE = "grpc.aio"
FLOOR = "uvloop echo"

PEERS: list[Peer] = [
    PythonPeer(
        "grpc.aio",
        UNARY | STREAMS | SETUPS,
        module="grpc_aio",
        requirements=("grpcio", "protobuf", "uvloop"),
        imports="grpc.aio, google.protobuf.message",
        protoc=("--python_out={out}", "--grpc_python_out={out}"),
    ),
    PythonPeer(
        "uvloop echo",
        frozenset({"unary", "size", "tls", "unix"}),
        module="uvloop_echo",
        requirements=("uvloop",),
        imports="uvloop",
    ),
]
