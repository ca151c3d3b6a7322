"""The hello-world of the README works as it stands there, and what it points to exists."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from support import ROOT, code_block, free_port

README = (ROOT / "README.md").read_text()
HELLO = README[README.index("## Hello, world") : README.index("## More")]
PORT = "50051"


def test_hello_world_is_short() -> None:
    files = [code_block(HELLO, f"`{name}`:") for name in ("hello.proto", "server.py", "client.py")]
    assert sum(text.count("\n") for text in files) < 60


def test_hello_world_runs(tmp_path: Path) -> None:
    port = str(free_port())
    for name in ("hello.proto", "server.py", "client.py"):
        text = code_block(HELLO, f"`{name}`:")
        if name.endswith(".py"):
            assert PORT in text
        (tmp_path / name).write_text(text.replace(PORT, port))
    name, *arguments = code_block(HELLO, "become a package").split()
    assert name == "protosocket"
    subprocess.run(
        [sys.executable, "-m", "protoc_plugin.cli", *arguments], cwd=tmp_path, check=True
    )
    python = [sys.executable, "-X", "dev", "-W", "error"]
    with subprocess.Popen([*python, "server.py"], cwd=tmp_path) as server:
        try:
            while server.poll() is None:  # it says nothing when it listens
                try:
                    socket.create_connection(("localhost", int(port))).close()
                    break
                except ConnectionRefusedError:
                    continue
            done = subprocess.run([*python, "client.py"], cwd=tmp_path, stdout=subprocess.PIPE)
        finally:
            server.terminate()
    command, said = code_block(HELLO, "Start `python server.py`").splitlines()
    assert command == "$ python client.py"
    assert done.stdout.decode() == said + "\n"
    assert server.returncode == 0
