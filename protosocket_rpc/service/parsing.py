"""Parsing of messages whose method has a size limit of its own, and what failures mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from protosocket_rpc.service.flow import MessageRefused
from protosocket_rpc.service.limits import too_large
from protosocket_rpc.status import INTERNAL, RESOURCE_EXHAUSTED

Message = TypeVar("Message")


def limited(
    parse: Callable[[bytes], Message], limit: int | None, side: str, setting: str
) -> Callable[[bytes], Message]:
    """`parse` itself, or what raises MessageRefused for more than `limit` bytes instead.

    Args:
        side, setting: whose limit it is, and its name, for too_large().
    """
    if limit is None:
        return parse
    most = limit

    def parse_limited(data: bytes) -> Message:
        if len(data) > most:
            text = too_large("Received message", len(data), most, side, setting)
            raise MessageRefused(RESOURCE_EXHAUSTED, text)
        return parse(data)

    return parse_limited


def parse_failure(error: Exception, otherwise: str) -> tuple[int, str]:
    """The code and the details for what a parser raised."""
    if isinstance(error, MessageRefused):
        return error.code, str(error)
    return INTERNAL, otherwise
