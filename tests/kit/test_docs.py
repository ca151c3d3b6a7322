"""docs/testing.md: its program runs, and it names all that there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from support import ROOT

from protosocket_rpc import testing

PAGE = (ROOT / "docs" / "testing.md").read_text()
(PROGRAM,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PROTO = """\
syntax = "proto3";
package hello;
message HelloRequest { string name = 1; }
message HelloReply { string message = 1; }
service Greeter { rpc SayHello(HelloRequest) returns (HelloReply); }
"""


def test_the_program_runs(tmp_path: Path) -> None:
    (tmp_path / "hello.proto").write_text(PROTO)
    (tmp_path / "program.py").write_text(PROGRAM)
    generate = ["-m", "protoc_plugin.cli", "generate", "hello.proto", "--out", "greetings"]
    subprocess.run([sys.executable, *generate], cwd=tmp_path, check=True)
    subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "program.py"], cwd=tmp_path, check=True
    )


def test_everything_public_is_on_the_page() -> None:
    for name in testing.__all__:
        if name not in ("Pair", "LinkedPair"):  # what the functions give
            assert re.search(rf"`{name}\b", PAGE), name
    for name in vars(testing.Direction):
        if not name.startswith("_") and name != "begin":
            assert re.search(rf"`{name}\b", PAGE), name
