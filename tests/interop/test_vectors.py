"""The golden vectors and Rust: what it writes is in rust.json, and it reads all of the others."""

from __future__ import annotations

import json
import subprocess
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import json_format
from interop.flavours import Note, NoteCodec
from interop.generated.exercise_pb2 import Blob, Range, Request, Response
from interop.programs import PROGRAMS
from vectors.generate import OUTPUT as FRAMES
from vectors.rust import OUTPUT, as_text
from wire.frames import load_frame_pb2

from protosocket_rpc.raw.codecs import ProtobufCodec

VECTORS: dict[str, Any] = json.loads(FRAMES.read_text(encoding="utf-8"))


def vectors(command: str, lines: list[str] | None = None) -> list[str]:
    """What rust/src/bin/vectors.rs says."""
    done = subprocess.run(
        [PROGRAMS / "vectors", command],
        input="".join(f"{line}\n" for line in lines or ()),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def frame_pb2() -> ModuleType:
    return load_frame_pb2()


def test_the_captured_bytes_are_what_rust_writes() -> None:
    text = as_text("\n".join(vectors("write")))
    assert OUTPUT.read_text(encoding="utf-8") == text, "see vectors/rust.py"


def test_rust_reads_every_frame_and_writes_the_same_bytes() -> None:
    written = [vector["bytes"] for vector in VECTORS["written"]]
    assert vectors("read", [f"frame {octets}" for octets in written]) == written


def test_rust_reads_what_others_may_have_written(frame_pb2: ModuleType) -> None:
    answers = vectors("read", [f"frame {vector['bytes']}" for vector in VECTORS["read"]])
    for vector, octets in zip(VECTORS["read"], answers, strict=True):
        data = bytes.fromhex(octets)[1:]
        expected = json_format.ParseDict(vector["frame"], frame_pb2.Frame())
        assert frame_pb2.Frame.FromString(data) == expected, vector["name"]


def test_rust_refuses_what_is_broken() -> None:
    """But waits for more of a length that will never be one."""
    answers = vectors("read", [f"frame {vector['bytes']}" for vector in VECTORS["broken"]])
    names = [vector["name"] for vector in VECTORS["broken"]]
    said = dict(zip(names, answers, strict=True))
    lengths = {name for name in names if name.startswith("length")}
    assert {said[name] for name in lengths} == {"incomplete"}
    assert {said[name] for name in set(names) - lengths} == {"refused"}


def test_rust_reads_messages_of_our_encoders() -> None:
    requests: ProtobufCodec[Response, Request] = ProtobufCodec(Response)
    responses: ProtobufCodec[Request, Response] = ProtobufCodec(Request)
    written = [
        ("request", requests.encode(Request(id=2**64 - 1, count=Range(count=2**40)))),
        ("request", requests.encode(Request(id=1, code=1))),
        ("response", responses.encode(Response(id=300, echo=Blob(data=bytes(range(256)))))),
        ("note", NoteCodec().encode(Note(2**64 - 1, 2, "verb", 2**40, "t\u00e9xt" * 100))),
        ("note", NoteCodec().encode(Note())),
    ]
    lines = [f"{kind} {data.hex()}" for kind, data in written]
    assert vectors("read", lines) == [data.hex() for _, data in written]
