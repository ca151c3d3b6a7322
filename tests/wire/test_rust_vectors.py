"""What Rust's crates write is read as what it means, and written by us in the same bytes."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import json_format
from vectors.rust import EXERCISE, OUTPUT
from wire.frames import assert_same, encode, load_message

from protosocket_rpc import rpc
from protosocket_rpc.raw.codecs import MessagePackCodec, ProtobufCodec
from protosocket_rpc.wire.codec import FrameCodec
from protosocket_rpc.wire.frame import Frame

VECTORS = json.loads(OUTPUT.read_text(encoding="utf-8"))


def each(kind: str) -> Any:
    vectors = VECTORS[kind]
    assert vectors
    return pytest.mark.parametrize("vector", vectors, ids=[v["name"] for v in vectors])


@each("frame")
def test_frames(frame_pb2: ModuleType, vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["bytes"])
    frames: list[Frame] = []
    assert FrameCodec(1 << 20).decode(data, frames) == len(data)
    (frame,) = frames
    assert_same(frame, json_format.ParseDict(vector["message"], frame_pb2.Frame()))
    assert encode(frame) == data


def check_own(message_type: Any, vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["bytes"])
    messages: list[Any] = []
    codec = ProtobufCodec(message_type)
    assert codec.decode(data, messages) == len(data)
    (message,) = messages
    assert message == json_format.ParseDict(vector["message"], message_type())
    assert codec.encode(message) == data
    tagged = rpc.ProtobufMessage(message_type)
    codes = {"cancel": rpc.ControlCode.CANCEL, "end": rpc.ControlCode.END}
    code = codes.get(vector["name"], rpc.ControlCode.NORMAL)
    assert tagged.message_id(message) == int(vector["message"]["id"])
    assert tagged.control_code(message) == code
    if vector["name"] == "cancel":
        assert codec.encode(tagged.cancelled(message.id)) == data
    if vector["name"] == "end":
        assert codec.encode(tagged.ended(message.id)) == data


@each("request")
def test_requests(vector: dict[str, Any]) -> None:
    check_own(load_message(EXERCISE, "interop.v1.Request"), vector)


@each("response")
def test_responses(vector: dict[str, Any]) -> None:
    check_own(load_message(EXERCISE, "interop.v1.Response"), vector)


@each("note")
def test_notes(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["bytes"])
    codec = MessagePackCodec()
    documents: list[Any] = []
    assert codec.decode(data, documents) == len(data)
    assert documents == [vector["message"]]
    assert codec.encode(documents[0]) == data
