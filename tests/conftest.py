"""What holds for every test: both event loops, and nothing left behind.

Coroutine tests run once on asyncio's own loop and once on uvloop (pytest-asyncio), each under a
time limit (pytest-timeout). A test fails on anything that it leaves to the loop's exception
handler, on tasks that outlive it, on coroutines never awaited, and on whatever the collector
finds unclosed: warnings are errors, and each test is collected before the next one begins.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from pytest_asyncio import is_async_test
from support import Certificates, UvLoop, make_certificates, release_ports

from protosocket_rpc import build_info
from protosocket_rpc.testing import VirtualClock

pytest_plugins = ["protosocket_rpc.testing.pytest"]

_errors = pytest.StashKey[list[dict[str, Any]]]()


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": UvLoop}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--build", choices=["pure", "compiled"], help="what the build must be")


def pytest_report_header() -> str:
    return str(build_info())


def pytest_sessionstart(session: pytest.Session) -> None:
    build = "compiled" if build_info().compiled else "pure"
    if session.config.getoption("build") not in (None, build):
        raise pytest.UsageError(f"the build is {build}: {build_info()}")


def pytest_collection_finish() -> None:
    # What is alive now stays: the collection after each test need not look at it again.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> None:
    errors: list[dict[str, Any]] = []
    request.node.stash[_errors] = errors

    def check() -> None:
        release_ports()
        gc.collect()
        gc.freeze()  # what stays alive, pytest's reports above all, is not looked at again
        for context in errors:
            raise AssertionError(f"left to the loop: {context}") from context.get("exception")

    request.node.addfinalizer(check)  # the first one added is called last: the loop is closed then
    if is_async_test(request.node):
        request.getfixturevalue("_strict_loop")


@pytest.fixture
async def _strict_loop(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    errors = request.node.stash[_errors]
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: errors.append(context))

    def expire() -> None:
        errors.append({"message": "the time limit is over"})
        for task in asyncio.all_tasks(loop):
            task.cancel()

    # The plugin's own way, an exception out of a signal handler, may hit the loop at work and
    # leave it beyond repair: it is for tests that do not give the loop its turn.
    marker = request.node.get_closest_marker("timeout")
    limit = float(marker.args[0] if marker else request.config.getini("timeout"))
    if isinstance(loop, VirtualClock):  # an hour of it is no time at all
        timer = threading.Timer(limit / 2, loop.call_soon_threadsafe, [expire])
        timer.start()
    else:
        timer = loop.call_later(limit / 2, expire)
    yield
    timer.cancel()
    for _ in range(10):  # what is ending may end
        leaked = asyncio.all_tasks() - {asyncio.current_task()}
        if not leaked:
            return
        await asyncio.sleep(0)
    pytest.fail(f"tasks outlive the test: {leaked}")


@pytest.fixture
def loop_errors(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What was left to the loop so far: for a test that expects it, and takes it."""
    return request.node.stash[_errors]


@pytest.fixture
def socket_dir() -> Iterator[Path]:
    """A directory whose path is short enough for a Unix-domain socket."""
    with TemporaryDirectory(prefix="ps-") as path:
        yield Path(path)


@pytest.fixture(params=["tcp", "unix", "unix-abstract", "memory"])
def target(request: pytest.FixtureRequest, socket_dir: Path) -> str:
    """Somewhere to listen, free for this test: of each kind in turn."""
    if request.param == "tcp":
        return "127.0.0.1:0"
    if request.param == "unix":
        return f"unix:{socket_dir / 'socket'}"
    scheme = request.param
    return f"{scheme}:protosocket-{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    """For what has to hold with and without TLS."""
    return request.param
