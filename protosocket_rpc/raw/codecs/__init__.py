"""Codecs that come with the raw layer. `protosocket_rpc.raw.codec` says what a codec is."""

from protosocket_rpc.raw.codecs.lines import ByteLineCodec, LineCodec
from protosocket_rpc.raw.codecs.messagepack import MessagePackCodec
from protosocket_rpc.raw.codecs.protobuf import ProtobufCodec

__all__ = ["ByteLineCodec", "LineCodec", "MessagePackCodec", "ProtobufCodec"]
