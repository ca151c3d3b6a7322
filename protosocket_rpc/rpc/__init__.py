"""RPC over any message that tells its id and its control code: client, server, pool."""

from protosocket_rpc.rpc.client import (
    RpcClient,
    StreamingCompletion,
    UnaryCompletion,
    connect,
)
from protosocket_rpc.rpc.message import ControlCode, MessageType, ProtobufMessage
from protosocket_rpc.rpc.pool import ConnectionPool
from protosocket_rpc.rpc.server import REJECTED, ConnectionService, Rejection, RpcServer, serve

__all__ = [
    "REJECTED",
    "ConnectionPool",
    "ConnectionService",
    "ControlCode",
    "MessageType",
    "ProtobufMessage",
    "Rejection",
    "RpcClient",
    "RpcServer",
    "StreamingCompletion",
    "UnaryCompletion",
    "connect",
    "serve",
]
