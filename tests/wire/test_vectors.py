"""The golden vectors of tests/vectors: up to date, and the same for us and for protobuf."""

from __future__ import annotations

import json
import zlib
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import json_format, wrappers_pb2
from google.protobuf.message import DecodeError as ProtobufDecodeError
from vectors.generate import OUTPUT, as_text
from wire.frames import assert_same, delimited, encode

from protosocket_rpc.errors import DecodeError
from protosocket_rpc.wire.codec import FrameCodec
from protosocket_rpc.wire.frame import Frame

VECTORS = json.loads(OUTPUT.read_text(encoding="utf-8"))


def each(*groups: str) -> Any:
    vectors = [vector for group in groups for vector in VECTORS[group]]
    return pytest.mark.parametrize("vector", vectors, ids=[v["name"] for v in vectors])


def decode(data: bytes) -> list[Frame]:
    frames: list[Frame] = []
    assert FrameCodec(1 << 20).decode(data, frames) == len(data)
    return frames


def test_they_are_up_to_date() -> None:
    assert OUTPUT.read_text(encoding="utf-8") == as_text(), "see vectors/generate.py"


def test_there_is_one_of_every_field(frame_pb2: ModuleType) -> None:
    fields = {field for vector in VECTORS["written"] for field in vector["frame"]}
    assert fields == {field.json_name for field in frame_pb2.Frame.DESCRIPTOR.fields}
    settings = {
        field for vector in VECTORS["written"] for field in vector["frame"].get("settings", ())
    }
    assert settings == {field.json_name for field in frame_pb2.Settings.DESCRIPTOR.fields}


@each("written", "read")
def test_they_are_read(frame_pb2: ModuleType, vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["bytes"])
    message = json_format.ParseDict(vector["frame"], frame_pb2.Frame())
    (frame,) = decode(data)
    assert_same(frame, message)
    theirs = frame_pb2.Frame.FromString(data[_prefix(data) :])
    theirs.DiscardUnknownFields()
    assert theirs == message


@each("written")
def test_they_are_written(frame_pb2: ModuleType, vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["bytes"])
    assert encode(decode(data)[0]) == data
    assert delimited(json_format.ParseDict(vector["frame"], frame_pb2.Frame())) == data


@each("broken")
def test_the_broken_ones_are_refused(frame_pb2: ModuleType, vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["bytes"])
    with pytest.raises(DecodeError):
        decode(data)
    if not vector["name"].startswith("length"):
        with pytest.raises(ProtobufDecodeError):
            frame_pb2.Frame.FromString(data[1:])


def test_the_compressed_body_is_compressed() -> None:
    (vector,) = [v for v in VECTORS["written"] if v["name"] == "unary-request-compressed"]
    (frame,) = decode(bytes.fromhex(vector["bytes"]))
    assert frame.body is not None
    message = wrappers_pb2.StringValue.FromString(zlib.decompress(frame.body))
    assert message.value == "Vega " * 20


def _prefix(data: bytes) -> int:
    """The number of bytes of the length in front of a frame."""
    return next(index for index, byte in enumerate(data) if byte < 0x80) + 1
