"""The default limit that codecs share."""

from typing import Final

# Bytes of one message: gRPC's default as well.
MAX_MESSAGE_SIZE: Final = 4 * 1024 * 1024
