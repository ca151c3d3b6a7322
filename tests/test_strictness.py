"""A test that leaves something behind is a test that fails: conftest.py, put to the test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import ROOT, server_process

HEAD = """\
import asyncio, signal, socket, time
import pytest
from support import wait_until
"""

CASES = {
    "a leaked task": """
async def test():
    global task
    task = asyncio.ensure_future(asyncio.Event().wait())
""",
    "an exception in a callback": """
async def test():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
""",
    "an exception that nobody retrieves": """
async def test():
    asyncio.get_running_loop().create_future().set_exception(ValueError())
""",
    "a coroutine that is never awaited": """
async def test():
    asyncio.sleep(0)
""",
    "an unclosed socket": """
def test():
    socket.socket()
""",
    "an unclosed transport": """
async def test():
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    await asyncio.open_connection(*server.sockets[0].getsockname())
    server.close()
""",
    "an unclosed server": """
async def test():
    await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
""",
    "a warning": """
import warnings
def test():
    warnings.warn("this")
""",
    "a wait for ever": """
@pytest.mark.timeout(3)
async def test():
    await asyncio.Event().wait()
""",
    "a loop that never gets its turn": """
@pytest.mark.timeout(1)
async def test():
    while True:
        pass
""",
    "a condition that never holds": """
@pytest.mark.timeout(3)
async def test():
    await wait_until(lambda: False)
""",
}


def run(pytester: pytest.Pytester, body: str) -> pytest.RunResult:
    pytester.makepyfile(test_it=HEAD + body)
    tests = ROOT / "tests"
    pytester.makeconftest((tests / "conftest.py").read_text())
    pytester.makepyprojecttoml(
        (ROOT / "pyproject.toml")
        .read_text()
        .replace('testpaths = ["tests"]', "")
        .replace('pythonpath = ["tests", "."]', f"pythonpath = ['{tests}', '{ROOT}']")
    )
    return pytester.runpytest_subprocess("-p", "no:cacheprovider")


@pytest.mark.parametrize("case", CASES)
def test_what_is_left_behind_fails_the_test(pytester: pytest.Pytester, case: str) -> None:
    result = run(pytester, CASES[case])
    for loop in ("[asyncio]", "[uvloop]") if "async def" in CASES[case] else ("",):
        result.stdout.re_match_lines_random(
            [rf"(FAILED|ERROR) test_it.py::test{re.escape(loop)}.*"]
        )


def test_what_leaves_nothing_passes_on_both_loops(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
async def test():
    task = asyncio.ensure_future(asyncio.sleep(0))
    await task
""",
    )
    result.assert_outcomes(passed=2)


async def test_server_process_waits_for_the_ready_line(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import time; print('warming up'); print('port 4711'); time.sleep(60)")
    async with server_process(program, ready=r"^port (\d+)$") as server:
        assert server.ready[1] == "4711"


async def test_server_process_reports_a_program_that_fails(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("print('so far'); raise SystemExit(3)")
    with pytest.raises(AssertionError, match=r"ended with 3 before it was ready:\nso far"):
        async with server_process(program, ready="never"):
            pass
