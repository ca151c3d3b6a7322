"""Fixtures for pytest. In the conftest.py at the root of your tests:

    pytest_plugins = ["protosocket_rpc.testing.pytest"]

They are for tests that pytest-asyncio runs, in either mode, and for those that anyio runs on
asyncio. Nothing else of the library needs pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from protosocket_rpc.testing.clock import VirtualClock
from protosocket_rpc.testing.pair import LinkedPair, Pair, linked_pair, pair

try:
    import pytest_asyncio
except ImportError:  # where anyio runs the tests
    pytest_asyncio = None  # type: ignore[assignment]  # a module, as far as mypy knows

MakePair = Callable[..., Awaitable[Pair]]
MakeLinkedPair = Callable[..., Awaitable[LinkedPair]]


@pytest.fixture
def rpc_pair(request: pytest.FixtureRequest) -> MakePair:
    """``await rpc_pair(*servicers)``: what `pair` gives, until the test ends."""
    _, enter = _test_scope(request)
    return lambda *args, **options: enter(pair(*args, **options))


@pytest.fixture
def rpc_linked_pair(request: pytest.FixtureRequest) -> MakeLinkedPair:
    """``await rpc_linked_pair(*servicers)``: what `linked_pair` gives, until the test ends."""
    _, enter = _test_scope(request)
    return lambda *args, **options: enter(linked_pair(*args, **options))


@pytest.fixture
def virtual_clock(request: pytest.FixtureRequest) -> VirtualClock:
    """The event loop of the test, which is a `VirtualClock`.

    With pytest-asyncio 1.4 or later, tests that use this fixture run on one; with anyio, where
    ``anyio_backend`` is ``("asyncio", {"loop_factory": VirtualClock})``.
    """
    loop, _ = _test_scope(request)
    if not isinstance(loop, VirtualClock):
        pytest.fail(f"virtual_clock is for tests that run on a VirtualClock, not on {loop!r}")
    return loop


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> Generator[None, Any, Mapping[str, Any]]:
    """Give a test that wants it a virtual clock, and leave the others what they have."""
    factories = yield
    if "virtual_clock" in getattr(item, "fixturenames", ()):
        return {"virtual": VirtualClock}
    return factories or {"asyncio": asyncio.new_event_loop}


# The event loop of a test, and what enters a context that is left at its end.
_Scope = tuple[asyncio.AbstractEventLoop, Callable[[Any], Awaitable[Any]]]


def _test_scope(request: pytest.FixtureRequest) -> _Scope:
    if "anyio_backend" in request.fixturenames:
        return request.getfixturevalue("_anyio_scope")  # type: ignore[no-any-return]  # by name
    if pytest_asyncio is None:
        pytest.fail(f"{request.fixturename} needs pytest-asyncio or anyio")
    return request.getfixturevalue("_asyncio_scope")  # type: ignore[no-any-return]  # by name


@asynccontextmanager
async def _scope() -> AsyncIterator[_Scope]:
    async with AsyncExitStack() as stack:
        yield asyncio.get_running_loop(), stack.enter_async_context


@pytest.fixture
async def _anyio_scope() -> AsyncIterator[_Scope]:
    async with _scope() as scope:
        yield scope


if pytest_asyncio is not None:

    @pytest_asyncio.fixture
    async def _asyncio_scope() -> AsyncIterator[_Scope]:
        async with _scope() as scope:
            yield scope
