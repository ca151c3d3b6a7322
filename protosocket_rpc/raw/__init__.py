"""The raw protosocket: a connection, a codec and a reactor. No ids, no RPC."""

from protosocket_rpc.raw.address import Address, parse_address, parse_addresses
from protosocket_rpc.raw.binding import Binding, bind
from protosocket_rpc.raw.codec import Codec, CodecPair, Decoder, Encoder
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.raw.endpoints import connect
from protosocket_rpc.raw.limits import Limits
from protosocket_rpc.raw.reactor import Reactor
from protosocket_rpc.raw.server import RawServer, serve

__all__ = [
    "Address",
    "Binding",
    "Codec",
    "CodecPair",
    "Connection",
    "Decoder",
    "Encoder",
    "Limits",
    "RawServer",
    "Reactor",
    "bind",
    "connect",
    "parse_address",
    "parse_addresses",
    "serve",
]
