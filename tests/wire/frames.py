"""The Frame of the protobuf library, compiled from the project's schema, and how ours compares."""

from __future__ import annotations

import importlib.resources
import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc
from support import ROOT

from protosocket_rpc.raw.varint import encode_varint
from protosocket_rpc.wire.frame import (
    MORE_FIELD,
    Frame,
    body_field,
    compression_field,
    credit_field,
    encode_frame,
    go_away_field,
    method_field,
    ping_field,
    pong_field,
    settings_field,
    status_field,
    timeout_field,
)
from protosocket_rpc.wire.metadata import metadata_field, trailers_field

SCHEMA = "protosocket/rpc/v1/frame.proto"
# Where the schema's imports are found.
INCLUDES = (ROOT / "proto", Path(str(importlib.resources.files("grpc_tools"))) / "_proto")


def load_frame_pb2() -> ModuleType:
    """The module that protoc makes of the schema."""
    with TemporaryDirectory() as out:
        includes = [f"-I{include}" for include in INCLUDES]
        assert protoc.main(["protoc", *includes, f"--python_out={out}", SCHEMA]) == 0
        path = Path(out, SCHEMA).with_name("frame_pb2.py")
        spec = importlib.util.spec_from_file_location("frame_pb2", path)
        assert spec is not None
        assert spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def load_message(schema: Path, name: str) -> type[Any]:
    """A message type of a schema that imports none, in a pool of its own."""
    with TemporaryDirectory() as out:
        path = Path(out, "set")
        arguments = [f"-I{schema.parent}", f"--descriptor_set_out={path}", schema.name]
        assert protoc.main(["protoc", *arguments]) == 0
        files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(files.file[0])
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def delimited(message: Any) -> bytes:
    """A protobuf message as the library writes it, behind its length."""
    data = message.SerializeToString()
    return encode_varint(len(data)) + data


def assert_same(frame: Frame, message: Any) -> None:
    """Every field of the one is the same field of the other."""

    def optional(name: str) -> Any:
        return getattr(message, name) if message.HasField(name) else None

    assert frame.id == message.id
    assert frame.code == message.code
    assert frame.method == message.method
    assert frame.body == optional("body")
    assert frame.timeout_us == message.timeout_us
    assert (frame.metadata or []) == [(pair.key, pair.value) for pair in message.metadata]
    assert (frame.trailers or []) == [(pair.key, pair.value) for pair in message.trailers]
    assert frame.compression == message.compression
    assert frame.credit == message.credit
    assert frame.more == message.more
    for name in ("status", "settings", "go_away"):
        mine, theirs = getattr(frame, name), optional(name)
        assert (mine is None) == (theirs is None)
        if theirs is None:
            continue
        for field in theirs.DESCRIPTOR.fields:
            value = getattr(theirs, field.name)
            if field.name == "details":
                value = tuple(detail.SerializeToString() for detail in value)
            elif field.name == "compression":
                value = tuple(value)
            assert getattr(mine, field.name) == value, field.name
    for name in ("ping", "pong"):
        theirs = optional(name)
        assert getattr(frame, name) == (None if theirs is None else theirs.token)


def encode(frame: Frame) -> bytes:
    """A frame with all of its fields, written by the functions of `wire.frame`."""
    fields = b""
    if frame.method:
        fields += method_field(frame.method)
    if frame.body is not None:
        fields += body_field(frame.body)
    if frame.timeout_us:
        fields += timeout_field(frame.timeout_us)
    fields += metadata_field(frame.metadata or [])
    fields += trailers_field(frame.trailers or [])
    if frame.status is not None:
        fields += status_field(frame.status)
    fields += compression_field(frame.compression) + credit_field(frame.credit)
    if frame.more:
        fields += MORE_FIELD
    if frame.settings is not None:
        fields += settings_field(frame.settings)
    if frame.ping is not None:
        fields += ping_field(frame.ping)
    if frame.pong is not None:
        fields += pong_field(frame.pong)
    if frame.go_away is not None:
        fields += go_away_field(frame.go_away)
    return encode_frame(frame.id, frame.code, fields)
