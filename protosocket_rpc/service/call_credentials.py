"""Credentials of calls: metadata, such as a token, that goes with each one.

They are for secure channels; on any other, a call with credentials ends with UNAUTHENTICATED
before anything was sent.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Any, Final, NamedTuple

from protosocket_rpc.metadata import MetadataLike, Metadatum, Pairs, metadata_to_wire
from protosocket_rpc.service.sync_handlers import is_async

INSECURE: Final = (
    "Established channel does not have a sufficient security level to transfer call credential."
)


class AuthMetadataContext(NamedTuple):
    """The call that credentials are asked for.

    Attributes:
        service_url: ``https://host:port/package.Service``; without the port if it is 443.
        method_name: the method's own name.
    """

    service_url: str
    method_name: str


AuthMetadataPluginCallback = Callable[[MetadataLike, "Exception | None"], None]
"""Takes the metadata, and the error if there is none to be had."""


class AuthMetadataPlugin(ABC):
    """Gives each call its credentials: ``grpc.AuthMetadataPlugin``."""

    @abstractmethod
    def __call__(self, context: AuthMetadataContext, callback: AuthMetadataPluginCallback) -> None:
        """Call `callback` with metadata for a call. Runs in a thread, so it may block.

        Args:
            callback: takes the metadata and None, or anything and the exception that prevented
                it. From any thread, now or later.
        """


AsyncAuthMetadataPlugin = Callable[[AuthMetadataContext], Any]


class CallCredentials:
    """What goes with calls. Made by the functions here."""

    def __init__(self, fixed: Iterable[Metadatum], plugins: tuple[Any, ...]) -> None:
        self._fixed: Final = tuple(fixed)
        self._fixed_pairs: Final = metadata_to_wire(self._fixed)
        self._plugins: Final = plugins

    @property
    def fixed(self) -> Pairs | None:
        """The metadata, if it is known without asking anyone; else None."""
        return None if self._plugins else self._fixed_pairs

    async def metadata(self, context: AuthMetadataContext) -> Pairs:
        """The metadata for a call. Raises what a plugin does, and if what it gave is none."""
        pairs = list(self._fixed_pairs)
        for plugin in self._plugins:
            if is_async(plugin):
                given = await plugin(context)
            else:
                given = await _ask(plugin, context)
            if given is not None:
                pairs += metadata_to_wire(given)
        return pairs

    def joined(self, others: Iterable[CallCredentials]) -> CallCredentials:
        """These and others."""
        fixed = list(self._fixed)
        plugins = self._plugins
        for other in others:
            fixed += other._fixed
            plugins += other._plugins
        return CallCredentials(fixed, plugins)


async def _ask(plugin: AuthMetadataPlugin, context: AuthMetadataContext) -> MetadataLike | None:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[MetadataLike | None] = loop.create_future()

    def settle(metadata: MetadataLike | None, error: object) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(metadata)
        elif isinstance(error, Exception) and not isinstance(error, StopIteration):
            answer.set_exception(error)
        else:  # what no future can hold
            answer.set_exception(RuntimeError(str(error) or type(error).__name__))

    def callback(metadata: MetadataLike, error: Exception | None) -> None:
        loop.call_soon_threadsafe(settle, metadata, error)

    def ask() -> None:
        try:
            plugin(context, callback)
        except BaseException as error:
            loop.call_soon_threadsafe(settle, (), error)

    await loop.run_in_executor(None, copy_context().run, ask)
    return await answer


def metadata_call_credentials(
    metadata_plugin: AuthMetadataPlugin | AsyncAuthMetadataPlugin, name: str | None = None
) -> CallCredentials:
    """Credentials that a plugin is asked for, for every call.

    Args:
        metadata_plugin: an `AuthMetadataPlugin`, or any function like one, which runs in a
            thread; or a coroutine function that takes the context and returns the metadata.
        name: accepted, as in gRPC.
    """
    return CallCredentials((), (metadata_plugin,))


def access_token_call_credentials(access_token: str) -> CallCredentials:
    """An OAuth2 access token, in the metadata ``authorization``."""
    return CallCredentials([("authorization", f"Bearer {access_token}")], ())


def composite_call_credentials(*call_credentials: CallCredentials) -> CallCredentials:
    """Several credentials in one. Raises ValueError if there are none."""
    if not call_credentials:
        raise ValueError("composite_call_credentials needs credentials")
    return call_credentials[0].joined(call_credentials[1:])
