"""docs/testing.md: its programs and tests run, and it names all that there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from protosocket_rpc import testing
from protosocket_rpc.testing import pytest as plugin

PAGE = (ROOT / "docs" / "testing.md").read_text()
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
(PROTO,) = re.findall(r"```proto\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
INI = """\
[pytest]
filterwarnings = error
pythonpath = .
asyncio_default_fixture_loop_scope = function
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """The files of the page, and what is generated for them."""
    path = pytester.path
    (path / "hello.proto").write_text(PROTO)
    for name, text in FILES.items():
        (path / name).write_text(text)
    generate = ["-m", "protoc_plugin.cli", "generate", "hello.proto", "--out", "greetings"]
    subprocess.run([sys.executable, *generate], cwd=path, check=True)
    return path


def test_each_snippet_has_a_name() -> None:
    assert PAGE.count("```python") == len(FILES)


def test_the_program_runs(project: Path) -> None:
    subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "program.py"], cwd=project, check=True
    )


def test_the_tests_pass(project: Path, pytester: pytest.Pytester) -> None:
    (project / "pytest.ini").write_text(INI)
    wanted = sum(text.count("async def test_") for text in FILES.values())
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=wanted)


def test_everything_public_is_on_the_page() -> None:
    members = {
        name
        for owner in (testing.Direction, testing.Link)
        for name in vars(owner)
        if not name.startswith("_") and name != "begin"
    }
    fixtures = {
        name
        for name, value in vars(plugin).items()
        if type(value).__name__ == "FixtureFunctionDefinition" and not name.startswith("_")
    }
    assert fixtures == {"rpc_pair", "rpc_linked_pair", "virtual_clock"}
    results = {"Pair", "LinkedPair"}  # of functions that are on the page
    for name in {*testing.__all__, *members, *fixtures} - results:
        assert re.search(rf"\b{name}\b", PAGE), name
