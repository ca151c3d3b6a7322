"""From ``module:name`` to a server: imported, called if it is to be, and left at the end."""

from __future__ import annotations

import functools
import importlib
import inspect
import operator
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from protosocket_rpc.service.credentials import ServerCredentials, ssl_server_credentials
from protosocket_rpc.service.metrics import ServerMetrics
from protosocket_rpc.service.server import Server, server
from protosocket_rpc.workers.settings import WorkerSettings


class AppError(Exception):
    """The app cannot be served. The text says why, to who has written or named it."""


def find(name: str) -> Any:
    """What ``package.module:name`` names; the name may have dots.

    Raises:
        AppError: there is no such thing, or its module fails.
    """
    module_name, _, attributes = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and _is_part(error.name, module_name):
            raise AppError(f"there is no module {error.name!r}, for the app {name!r}") from error
        raise AppError(_failure(f"the module {module_name!r} fails", error)) from error
    try:
        return operator.attrgetter(attributes)(found)
    except AttributeError as error:
        raise AppError(f"there is no {attributes!r} in {module_name!r}: {error}") from error


def _is_part(missing: str | None, name: str) -> bool:
    return missing is not None and f"{name}.".startswith(f"{missing}.")


def _failure(what: str, error: BaseException) -> str:
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return f"{what}:\n{trace.rstrip()}"


@asynccontextmanager
async def serving(settings: WorkerSettings) -> AsyncIterator[Server]:
    """The server of an app, without ports, until the block ends.

    Raises:
        AppError: there is none to be had.
    """
    async with AsyncExitStack() as stack:
        try:
            app = find(settings.app)
            if settings.factory or _is_factory(app):
                app = await _made(app(), stack)
            made = _server_of(app)
            _apply(settings, made)
        except AppError:
            raise
        except Exception as error:
            raise AppError(_failure(f"the app {settings.app!r} fails", error)) from error
        yield made


def _is_factory(app: Any) -> bool:
    return inspect.isroutine(app) or isinstance(app, (type, functools.partial))


async def _made(made: Any, stack: AsyncExitStack) -> Any:
    if inspect.isawaitable(made):
        made = await made
    if hasattr(made, "__aenter__") and not isinstance(made, Server):
        made = await stack.enter_async_context(made)
    return made


def _server_of(app: Any) -> Server:
    if isinstance(app, Server):
        if app.has_ports:
            raise AppError("the app's server has ports of its own: leave them to --bind")
        return app
    made = server()
    try:
        for servicer in app if isinstance(app, (list, tuple)) else (app,):
            made.add(servicer)
    except TypeError as error:
        raise AppError(f"the app is no server, and no servicer either: {error}") from error
    return made


def _apply(settings: WorkerSettings, made: Server) -> None:
    """What the settings say goes before what the app's own server says."""
    if settings.busy_poll is not None:
        made.connectivity = replace(made.connectivity, busy_poll=settings.busy_poll)
    if settings.max_concurrent_rpcs is not None:
        made.maximum_concurrent_rpcs = settings.max_concurrent_rpcs
    if settings.metrics_bind is not None and made.metrics is None:
        made.metrics = ServerMetrics()


def credentials(settings: WorkerSettings) -> ServerCredentials | None:
    """What the TLS files say now; None if there are none.

    Raises:
        AppError: they cannot be read, or are no such files.
    """
    if not (settings.tls_cert and settings.tls_key):
        return None
    try:
        pair = Path(settings.tls_key).read_bytes(), Path(settings.tls_cert).read_bytes()
        authorities = Path(settings.client_ca).read_bytes() if settings.client_ca else None
        return ssl_server_credentials([pair], authorities, authorities is not None)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise AppError(f"the TLS files cannot be used: {error}") from error
