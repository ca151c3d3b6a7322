"""docs/raw.md: its program runs, its limits are the code's."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from typing import Any

import pytest
from support import ROOT, complaints, default

from protosocket_rpc.errors import DecodeError
from protosocket_rpc.raw import Limits, Reactor, parse_address
from protosocket_rpc.raw.codecs import ByteLineCodec, LineCodec, MessagePackCodec, ProtobufCodec

PAGE = (ROOT / "docs" / "raw.md").read_text()
(PROGRAM,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_program_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, complaints(done.stderr)) == ("b'HELLO'\n", "")


def netstrings() -> Any:
    names: dict[str, Any] = {"__name__": "raw"}
    exec(PROGRAM.partition("asyncio.run")[0], names)
    return names["Netstrings"]()


def test_its_codec_takes_messages_at_every_split() -> None:
    codec = netstrings()
    messages = [b"", b"hello", b"1:a,", bytes(300)]
    data = b"".join(map(codec.encode, messages))
    for cut in range(len(data) + 1):
        read: list[bytes] = []
        end = codec.decode(data[:cut], read)
        assert codec.needed() == 0 or codec.needed() > cut - end
        assert codec.decode(data[end:], read) == len(data) - end
        assert read == messages


@pytest.mark.parametrize("data", [b"x", b":,", b"5x", b"-1:", b"1:ab", b"12345678", b"0: "])
def test_its_codec_refuses_what_is_broken(data: bytes) -> None:
    with pytest.raises(DecodeError):
        netstrings().decode(data, [])


def test_its_codec_raises_nothing_else() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        data = bytes(rng.choices(b"0123:,a", k=rng.randrange(20)))
        try:
            assert 0 <= netstrings().decode(data, []) <= len(data)
        except DecodeError:
            continue


def test_the_limits_are_the_code_s() -> None:
    units = {"KiB": 1024, "MiB": 1024 * 1024}
    stated = {
        name: int(number) * units[unit]
        for name, number, unit in re.findall(r"^\| `(.*?)` \| (\d+) (.iB) \|", PAGE, re.MULTILINE)
    }
    assert stated == {
        "Limits.max_buffer": Limits().max_buffer,
        "Limits.max_queued_output": Limits().max_queued_output,
        "max_message_size": default(ProtobufCodec, "max_message_size"),
        "max_line_size": default(LineCodec, "max_line_size"),
    }
    assert default(MessagePackCodec, "max_message_size") == stated["max_message_size"]
    assert default(ByteLineCodec, "max_line_size") == stated["max_line_size"]


def test_every_callback_is_named() -> None:
    callbacks = {name for name in vars(Reactor) if name.startswith("on_")}
    assert callbacks == set(re.findall(r"`(on_\w+)`", PAGE))


def test_the_addresses_are_understood() -> None:
    for target in ("host:1", "[::1]:1", ":1", "unix:path", "unix-abstract:name", "memory:name"):
        parse_address(target)
