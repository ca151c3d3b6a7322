"""Writes rust.json: what the encoders of Rust's crates write.

``python -m vectors.rust``, in the folder tests, writes it anew; it needs cargo. What the bytes mean
is read by Google's protobuf library and by msgpack, not by the code that they test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
from google.protobuf import json_format
from support import ROOT
from wire.frames import load_frame_pb2, load_message

OUTPUT = Path(__file__).with_name("rust.json")
EXERCISE = ROOT / "tests" / "interop" / "protos" / "exercise.proto"


def vectors(written: str) -> dict[str, Any]:
    """What rust.json has to hold.

    Args:
        written: lines of kind, name and bytes: what interop/rust/src/bin/vectors.rs prints.
    """
    types: dict[str, Any] = {
        "frame": load_frame_pb2().Frame,
        "request": load_message(EXERCISE, "interop.v1.Request"),
        "response": load_message(EXERCISE, "interop.v1.Response"),
    }
    found: dict[str, Any] = {"frame": [], "request": [], "response": [], "note": []}
    for line in written.splitlines():
        kind, name, octets = line.split(" ")
        data = bytes.fromhex(octets)
        if kind == "note":
            message = msgpack.unpackb(data[5:])
        else:
            start = next(index for index, byte in enumerate(data) if byte < 0x80) + 1
            message = json_format.MessageToDict(types[kind].FromString(data[start:]))
        found[kind].append({"name": name, "bytes": octets, "message": message})
    return found


def as_text(written: str) -> str:
    """The text of rust.json."""
    return json.dumps(vectors(written), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    from interop.programs import cargo

    done = cargo("run", "--locked", "--quiet", "--bin", "vectors", "write")
    if done.returncode:
        raise SystemExit(done.stdout)
    OUTPUT.write_text(as_text(done.stdout), encoding="utf-8")
