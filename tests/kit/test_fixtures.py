"""The plugin: fixtures for whatever runs the tests, and nothing for who does not ask for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import ROOT

BODY = """\
import asyncio
import pytest
import protosocket_rpc as ps
from protosocket_rpc.testing import VirtualClock

async def echo(request, context):
    return request

def server():
    made = ps.server()
    handlers = {"Unary": ps.unary_unary_rpc_method_handler(echo)}
    made.add_registered_method_handlers("test.Service", handlers)
    return made

closed = []
"""
TESTS = """
async def test_pair(rpc_pair):
    made = await rpc_pair(server=server())
    closed.append(made)
    assert await made.channel.unary_unary("/test.Service/Unary")(b"x") == b"x"

async def test_linked_pair(rpc_linked_pair, rpc_pair):
    one = await rpc_linked_pair(server=server())
    other = await rpc_pair(server=server())
    closed.extend([one, other])
    one.link.reset()
    for made in (one, other):
        unary = made.channel.unary_unary("/test.Service/Unary")
        assert await unary(b"x", wait_for_ready=True) == b"x"
"""
CLOCK = """
async def test_clock(virtual_clock):
    assert virtual_clock is asyncio.get_running_loop()
    await asyncio.sleep(3600)
    assert virtual_clock.time() == 3600.0
"""
CLOSED = """
def test_closed():
    assert len(closed) == 3
    assert all(made.channel.get_state() is ps.ChannelConnectivity.SHUTDOWN for made in closed)
"""
ON_THE_CLOCK = """
@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualClock}
"""


def marked(mark: str, tests: str) -> str:
    return tests.replace("async def", f"@pytest.mark.{mark}\nasync def")


def run(
    pytester: pytest.Pytester, body: str, *options: str, mode: str = "strict"
) -> pytest.RunResult:
    pytester.makeconftest('pytest_plugins = ["protosocket_rpc.testing.pytest"]\n')
    pytester.makepyfile(test_it=BODY + body)
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    quiet = ("-o", "asyncio_default_fixture_loop_scope=function", "-o", f"asyncio_mode={mode}")
    if "no:asyncio" in options:
        quiet = ()
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *quiet, *options)


def test_with_asyncio_strict(pytester: pytest.Pytester) -> None:
    tests = marked("asyncio", TESTS + CLOCK) + CLOSED
    run(pytester, tests, "-p", "no:anyio").assert_outcomes(passed=4)


def test_with_asyncio_auto(pytester: pytest.Pytester) -> None:
    run(pytester, TESTS + CLOCK + CLOSED, mode="auto").assert_outcomes(passed=4)


@pytest.mark.parametrize("options", [(), ("-p", "no:asyncio")], ids=["beside", "alone"])
def test_with_anyio(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    tests = ON_THE_CLOCK + marked("anyio", TESTS + CLOCK) + CLOSED
    run(pytester, tests, *options).assert_outcomes(passed=4)


def test_a_clock_on_another_loop_is_refused(pytester: pytest.Pytester) -> None:
    backend = '@pytest.fixture\ndef anyio_backend():\n    return "asyncio"\n'
    result = run(pytester, backend + marked("anyio", CLOCK))
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*virtual_clock is for tests that run on a VirtualClock*"])


def test_without_a_runner_it_is_said_what_is_missing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(pytest_asyncio="raise ImportError")
    result = run(pytester, "def test(rpc_pair):\n    pass\n", "-p", "no:asyncio")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*rpc_pair needs pytest-asyncio or anyio*"])


def test_the_library_does_not_import_pytest() -> None:
    program = "import sys, protosocket_rpc.testing; sys.exit('pytest' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
