"""Compression of messages: gzip, deflate, and zstd where its library is installed.

A message is compressed only towards a peer that has said that it understands how, and is taken
apart no further than the limit for messages, however much more it claims to hold.
"""

from __future__ import annotations

import contextlib
import importlib
import zlib
from enum import IntEnum
from typing import Any, Final

from protosocket_rpc.errors import ProtosocketError


class CompressedBody(bytes):
    """A message that waits to be taken, in the form in which it came: bounded by its credit."""

    compression: int = 0


class Compression(IntEnum):
    """How messages are compressed. The first three are gRPC's; Zstd needs the extra ``zstd``."""

    NoCompression = 0
    Deflate = 1
    Gzip = 2
    Zstd = 3


class DecompressionError(ProtosocketError):
    """A message is not compressed as it says, or is larger than the limit.

    Attributes:
        unsupported: nothing is known of the message; this side lacks the algorithm.
    """

    def __init__(self, message: str, *, unsupported: bool = False) -> None:
        super().__init__(message)
        self.unsupported = unsupported


class DecompressedTooLarge(ProtosocketError):
    """A message would be larger than the limit, had it been decompressed further."""


def _find_zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):  # Python 3.14's own, or its backport
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return None


_zstd: Final = _find_zstd()

# The values of Frame.compression.
_GZIP: Final = 1
_DEFLATE: Final = 2
_ZSTD: Final = 3
_ON_WIRE: Final = {Compression.Gzip: _GZIP, Compression.Deflate: _DEFLATE, Compression.Zstd: _ZSTD}

SUPPORTED: Final = (_GZIP, _DEFLATE) if _zstd is None else (_GZIP, _DEFLATE, _ZSTD)
"""The values of Frame.compression that this side can decompress."""

# zlib's wbits: which container is around the deflated data.
_WBITS: Final = {_GZIP: 31, _DEFLATE: 15}
# gRPC's, and every web server's: higher levels cost several times the time for a few percent.
_LEVEL: Final = 6


def wire_compression(compression: Compression | int | None) -> int:
    """The value of Frame.compression for what a user asks for; 0 for none.

    Raises:
        ValueError: there is no such compression.
        RuntimeError: zstd, without its library.
    """
    if not compression:
        return 0
    value = _ON_WIRE[Compression(compression)]
    if value not in SUPPORTED:
        raise RuntimeError("Compression.Zstd needs the extra: pip install 'protosocket-rpc[zstd]'")
    return value


def compress(compression: int, body: bytes) -> bytes:
    """The compressed message.

    Args:
        compression: a value of Frame.compression other than 0.
    """
    if compression == _ZSTD:
        data: bytes = _zstd.compress(body)
        return data
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WBITS[compression])
    return compressor.compress(body) + compressor.flush()


def decompress(compression: int, body: bytes, max_size: int) -> bytes:
    """The message that `body` is the compressed form of.

    Args:
        compression: the value of Frame.compression that came with it.
        max_size: bytes that the message may have.

    Raises:
        DecompressionError: it is not compressed like that, or not in a way that is known here.
        DecompressedTooLarge: there is more to it than `max_size`.
    """
    if compression not in SUPPORTED:
        raise DecompressionError(f"unknown compression {compression}", unsupported=True)
    try:
        if compression == _ZSTD:
            decompressor = _zstd_decompressor(body, max_size)
        else:
            decompressor = zlib.decompressobj(_WBITS[compression])
        data: bytes = decompressor.decompress(body, max_size + 1)
    except DecompressedTooLarge:
        raise
    except Exception as error:  # each library has its own
        raise DecompressionError(f"a compressed message is damaged: {error}") from error
    if len(data) > max_size:
        raise DecompressedTooLarge
    if not decompressor.eof:
        raise DecompressionError("a compressed message is incomplete")
    if decompressor.unused_data:
        raise DecompressionError("a compressed message has something behind its end")
    return data


def _zstd_decompressor(body: bytes, max_size: int) -> Any:
    size = _zstd.get_frame_info(body).decompressed_size
    if size is not None and size > max_size:
        raise DecompressedTooLarge
    # The window is allocated up front: 8 MiB is what every decoder has to grant (RFC 8878).
    window = _zstd.DecompressionParameter.window_log_max
    return _zstd.ZstdDecompressor(options={window: max(23, min(max_size.bit_length(), 27))})
