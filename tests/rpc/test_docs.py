"""docs/own-messages.md: its program runs, its limits are the code's."""

from __future__ import annotations

import re
import subprocess
import sys

from support import ROOT, complaints, default

from protosocket_rpc import rpc
from protosocket_rpc.raw import Limits
from protosocket_rpc.raw.codecs import MessagePackCodec, ProtobufCodec

PAGE = (ROOT / "docs" / "own-messages.md").read_text()


def test_the_program_runs() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, complaints(done.stderr)) == ("Hello, World!\n[0, 1, 2]\n", "")


def test_the_limits_are_the_code_s() -> None:
    stated = {
        name: int(number) * (1024 * 1024 if unit else 1)
        for name, number, unit in re.findall(r"^\| `(.*?)` \|.*?\| (\d+)( MiB)? \|", PAGE, re.M)
    }
    assert stated == {
        "max_unread": default(rpc.connect, "max_unread"),
        "max_concurrent_rpcs": default(rpc.serve, "max_concurrent_rpcs"),
        "max_message_size": default(ProtobufCodec, "max_message_size"),
        "Limits.max_buffer": Limits().max_buffer,
        "Limits.max_queued_output": Limits().max_queued_output,
    }
    assert default(MessagePackCodec, "max_message_size") == stated["max_message_size"]
