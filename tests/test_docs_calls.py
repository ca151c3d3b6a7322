"""The pages on calls: their programs run, and print what the pages say; their tables are true."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from support import ROOT, make_certificates

from protosocket_rpc import RpcLimits

PAGES = {
    name: (ROOT / "docs" / f"{name}.md").read_text()
    for name in ("calls", "interceptors", "security", "limits")
}
PROGRAMS = [
    pytest.param(program, output, id=f"{page}-{name}")
    for page, text in PAGES.items()
    for name, program, output in re.findall(
        r"```python\n# (\w+)\.py\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL
    )
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the programs find beside themselves: generated code, and certificates."""
    path = tmp_path_factory.mktemp("project")
    proto = re.search(r"```proto\n(.*?)```", PAGES["calls"], re.DOTALL)
    assert proto is not None
    (path / "greet.proto").write_text(proto[1])
    generate = ["-m", "protoc_plugin.cli", "generate", "greet.proto", "--out", "greetings"]
    subprocess.run([sys.executable, *generate], cwd=path, check=True)
    make_certificates(path)
    return path


@pytest.mark.parametrize(("program", "output"), PROGRAMS)
def test_programs_print_what_the_page_says(program: str, output: str, project: Path) -> None:
    (project / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "program.py"],
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == output


@pytest.mark.parametrize("page", PAGES)
def test_every_program_is_run(page: str) -> None:
    named = [each for each in PROGRAMS if str(each.id).startswith(f"{page}-")]
    assert PAGES[page].count("```python") == len(named) > 0


def test_the_table_of_sizes() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", PAGES["limits"], re.MULTILINE)
    assert rows[1:] == [(field.name, str(field.default)) for field in fields(RpcLimits)]
