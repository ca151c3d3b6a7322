"""Lines: a message ends with a newline. What telnet, netcat and many a text protocol speak."""

from __future__ import annotations

from typing import Final

from protosocket_rpc.errors import DecodeError, FrameTooLarge

MAX_LINE_SIZE: Final = 64 * 1024


class ByteLineCodec:
    r"""Lines as bytes, without their end: ``\n``, or ``\r\n`` as telnet sends it.

    Args:
        max_line_size: bytes of one line, its end included. A longer one is `FrameTooLarge`.
    """

    __slots__ = ("_max_line_size", "_scanned")

    def __init__(self, *, max_line_size: int = MAX_LINE_SIZE) -> None:
        self._max_line_size = max_line_size
        # How much of the unfinished line is known to hold no end: looked at once.
        self._scanned = 0

    def decode(self, data: bytes, messages: list[bytes]) -> int:
        limit = self._max_line_size
        pos = 0
        newline = data.find(b"\n", self._scanned)
        while newline >= 0:
            if newline - pos >= limit:
                self._refuse()
            end = newline - 1 if data[newline - 1 : newline] == b"\r" else newline
            messages.append(data[pos:end])
            pos = newline + 1
            newline = data.find(b"\n", pos)
        self._scanned = len(data) - pos
        if self._scanned >= limit:
            self._refuse()
        return pos

    def _refuse(self) -> None:
        raise FrameTooLarge(
            f"the peer sends a longer line than max_line_size, which is {self._max_line_size}"
        )

    def needed(self) -> int:
        return 0

    def encode(self, message: bytes) -> bytes:
        """The line with its end.

        Raises:
            ValueError: there is an end of line in `message`, which would make it two.
        """
        if b"\n" in message:
            raise ValueError(f"a line with an end of line in it: {message!r}")
        return message + b"\n"


class LineCodec:
    r"""Lines as text, without their end: ``\n``, or ``\r\n`` as telnet sends it.

    Args:
        max_line_size: bytes of one line, its end included. A longer one is `FrameTooLarge`.
        encoding: of the bytes; one in which ``\n`` is the byte 10, and no other is.
    """

    __slots__ = ("_encoding", "_lines")

    def __init__(self, *, max_line_size: int = MAX_LINE_SIZE, encoding: str = "utf-8") -> None:
        self._lines = ByteLineCodec(max_line_size=max_line_size)
        self._encoding = encoding

    def decode(self, data: bytes, messages: list[str]) -> int:
        lines: list[bytes] = []
        try:
            return self._lines.decode(data, lines)
        finally:
            for line in lines:
                messages.append(self._text(line))  # noqa: PERF401  # keeps those before a bad one

    def _text(self, line: bytes) -> str:
        try:
            return line.decode(self._encoding)
        except UnicodeDecodeError as error:
            raise DecodeError(f"a line is not {self._encoding}: {error.reason}") from error

    def needed(self) -> int:
        return 0

    def encode(self, message: str) -> bytes:
        """As `ByteLineCodec.encode`. UnicodeEncodeError is a ValueError, too."""
        return self._lines.encode(message.encode(self._encoding))
