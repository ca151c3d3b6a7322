"""Writes frames.json: every kind of frame as the protobuf library of Google writes it.

``python -m vectors.generate``, in the folder tests, writes it anew. The frames are given here as
proto JSON; their bytes come from the protobuf library, not from the code that they test.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from google.protobuf import json_format, wrappers_pb2
from wire.frames import delimited, load_frame_pb2

OUTPUT = Path(__file__).with_name("frames.json")

METHOD = "/observatory.v1.Observatory/Observe"


def text(value: str) -> str:
    """A message, as a body in JSON: a StringValue, which every protobuf library has."""
    body = wrappers_pb2.StringValue(value=value).SerializeToString()
    return base64.b64encode(body).decode()


def octets(value: bytes) -> str:
    """Any bytes, in JSON."""
    return base64.b64encode(value).decode()


# name, what it says, and the frame
WRITTEN: list[tuple[str, str, dict[str, Any]]] = [
    # -- client to server --
    (
        "unary-request",
        "opens a unary call; as small as an opening frame gets",
        {"id": "1", "method": METHOD, "body": text("Vega")},
    ),
    (
        "unary-request-empty",
        "an empty message is a message: the body is present, and has no bytes",
        {"id": "2", "method": METHOD, "body": ""},
    ),
    (
        "unary-request-deadline-metadata",
        "opens a call that has 1.5 seconds left, with text and binary metadata",
        {
            "id": "3",
            "method": METHOD,
            "body": text("Vega"),
            "timeoutUs": "1500000",
            "metadata": [
                {"key": "observation", "value": octets(b"first light")},
                {"key": "observation", "value": octets(b"second light")},
                {"key": "trace-bin", "value": octets(bytes(range(8)))},
            ],
        },
    ),
    (
        "unary-request-first-fragment",
        "opens a call with the first part of its request",
        {"id": "4", "method": METHOD, "body": octets(b"\x0a\x04Ve"), "more": True},
    ),
    (
        "fragment-between",
        "a part of a message that is neither its first nor its last",
        {"id": "4", "body": octets(b"g"), "more": True},
    ),
    ("fragment-last", "the last part of a message", {"id": "4", "body": octets(b"a")}),
    (
        "unary-request-compressed",
        "opens a call whose request is compressed with deflate, in zlib's format",
        {
            "id": "5",
            "method": METHOD,
            "body": octets(bytes.fromhex("789ce34a094b4d4f54a0310100aa06212b")),
            "compression": 2,
        },
    ),
    (
        "server-streaming-request",
        "opens a call whose replies may run ahead by 256 KiB",
        {"id": "6", "method": METHOD, "body": text("Vega"), "credit": "262144"},
    ),
    (
        "request-stream-open",
        "opens a call with a stream of requests: no body, no message",
        {"id": "7", "method": METHOD},
    ),
    (
        "request-stream-open-both",
        "opens a call with streams both ways",
        {"id": "8", "method": METHOD, "credit": "262144"},
    ),
    ("item", "a message of a stream, in either direction", {"id": "7", "body": text("Rigel")}),
    ("item-empty", "a message without bytes", {"id": "7", "body": ""}),
    ("half-close", "the stream of requests is complete", {"id": "7", "code": 2}),
    ("cancel", "the client gives up; or the server has stopped", {"id": "7", "code": 1}),
    ("credit", "the receiver may send 128 KiB more", {"id": "6", "credit": "131072"}),
    # -- server to client --
    ("reply", "ends a call with one reply: status OK", {"id": "1", "body": text("19455")}),
    (
        "reply-metadata-trailers",
        "a reply with initial and trailing metadata",
        {
            "id": "3",
            "body": text("19455"),
            "metadata": [{"key": "served-by", "value": octets(b"dome-2")}],
            "trailers": [{"key": "clouds-bin", "value": octets(b"\x00\xff")}],
        },
    ),
    (
        "initial-metadata",
        "initial metadata that does not wait for the first message",
        {"id": "6", "metadata": [{"key": "served-by", "value": octets(b"dome-2")}]},
    ),
    (
        "error",
        "ends a unary call with NOT_FOUND; on a stream, END follows",
        {"id": "1", "status": {"code": 5, "message": "no star named 'Sirus'"}},
    ),
    (
        "error-details-trailers",
        "an error with rich details and trailing metadata; text is UTF-8",
        {
            "id": "3",
            "trailers": [{"key": "did-you-mean", "value": octets(b"Sirius")}],
            "status": {
                "code": 5,
                "message": "ningún astro",
                "details": [
                    {
                        "@type": "type.googleapis.com/google.protobuf.StringValue",
                        "value": "Sirius",
                    },
                    {"@type": "type.googleapis.com/google.protobuf.UInt64Value", "value": "300"},
                ],
            },
        },
    ),
    ("end", "ends a stream of replies: status OK, unless one came before", {"id": "6", "code": 2}),
    (
        "end-trailers",
        "ends a stream of replies with trailing metadata",
        {"id": "6", "code": 2, "trailers": [{"key": "stars", "value": octets(b"16")}]},
    ),
    # -- the connection itself, in either direction --
    (
        "settings",
        "the first frame of each side",
        {
            "code": 2,
            "settings": {
                "maxFrameSize": "4243456",
                "maxMessageSize": "4194304",
                "initialCredit": "262144",
                "fragments": True,
                "credit": True,
                "ping": True,
                "compression": [1, 2],
                "maxMetadataSize": "16384",
            },
        },
    ),
    (
        "settings-nothing",
        "settings of a peer that understands nothing",
        {"code": 2, "settings": {}},
    ),
    ("ping", "asks for a pong with the same token", {"code": 2, "ping": {"token": "300"}}),
    ("ping-zero", "zero is a token, too", {"code": 2, "ping": {}}),
    ("pong", "answers a ping", {"code": 2, "pong": {"token": "300"}}),
    (
        "go-away",
        "the server takes no call after the one with the id 8, and closes when those have ended",
        {"code": 2, "goAway": {"lastId": "8", "reason": "the server is shutting down"}},
    ),
    (
        "go-away-error",
        "the server closes the connection, which is broken",
        {"code": 2, "goAway": {"lastId": "8", "code": 13, "reason": "protocol error"}},
    ),
    # -- sizes --
    (
        "two-byte-lengths",
        "a body, a frame and an id whose varints have two bytes",
        {"id": "300", "body": octets(b"." * 200)},
    ),
    ("largest-id", "2**64 - 1, in ten bytes", {"id": str(2**64 - 1), "code": 1}),
]

# name, what is odd about it, the bytes behind the length, and the frame
READ: list[tuple[str, str, bytes, dict[str, Any]]] = [
    (
        "unknown-fields",
        "fields of a later version, one of each wire type, are skipped",
        b"\x08\x01\xa0\x06\x01\xa1\x06\x00\x00\x00\x00\x00\x00\x00\x00\xa2\x06\x02ab"
        b"\xa5\x06\x00\x00\x00\x00\x22\x01b",
        {"id": "1", "body": octets(b"b")},
    ),
    (
        "another-order",
        "only id and code have a place; the others come in any order",
        b"\x08\x01\x28\x64\x22\x01b\x1a\x04/a/b",
        {"id": "1", "method": "/a/b", "body": octets(b"b"), "timeoutUs": "100"},
    ),
    (
        "defaults-written-out",
        "a field that has its default may be there",
        b"\x08\x01\x10\x00\x1a\x00\x28\x00\x48\x00\x50\x00\x58\x00\x22\x00",
        {"id": "1", "body": ""},
    ),
    (
        "compression-not-packed",
        "a repeated number may come unpacked",
        b"\x10\x02\x62\x04\x38\x01\x38\x02",
        {"code": 2, "settings": {"compression": [1, 2]}},
    ),
    (
        "long-varints",
        "a number or a length may take more bytes than it needs",
        b"\x08\x81\x00\x22\x81\x80\x00b",
        {"id": "1", "body": octets(b"b")},
    ),
]

# name, what is wrong with it, and all of its bytes
BROKEN: list[tuple[str, str, bytes]] = [
    ("length-too-long", "a length of more than ten bytes", b"\x80" * 10 + b"\x01"),
    ("length-too-large", "a length of more than 64 bits", b"\xff" * 9 + b"\x7f"),
    ("length-of-2-gib", "a length that no protobuf message has", b"\x80\x80\x80\x80\x08\x08\x01"),
    ("field-cut-off", "the frame ends behind a tag", b"\x01\x08"),
    ("number-cut-off", "the frame ends within a number", b"\x02\x08\x80"),
    ("body-too-long", "the body goes on beyond the frame", b"\x05\x08\x01\x22\x05b"),
    ("method-not-utf8", "the method is not UTF-8", b"\x06\x08\x01\x1a\x02\xff\xfe"),
    ("key-not-utf8", "a metadata key is not UTF-8", b"\x08\x08\x01\x32\x04\x0a\x02\xff\xfe"),
    ("message-not-utf8", "a status message is not UTF-8", b"\x08\x08\x01\x42\x04\x12\x02\xff\xfe"),
    ("metadata-cut-off", "a metadata key goes on beyond its pair", b"\x06\x08\x01\x32\x02\x0a\x05"),
    ("field-number-0", "no field can have the number 0", b"\x04\x08\x01\x00\x05"),
    ("wire-type-6", "there is no wire type 6", b"\x04\x08\x01\x0e\x00"),
]


def vectors() -> dict[str, Any]:
    """What frames.json has to hold."""
    frame_pb2 = load_frame_pb2()

    def written(name: str, meaning: str, frame: dict[str, Any]) -> dict[str, Any]:
        data = delimited(json_format.ParseDict(frame, frame_pb2.Frame()))
        return {"name": name, "meaning": meaning, "bytes": data.hex(), "frame": frame}

    return {
        "schema": "protosocket.rpc.v1.Frame",
        "written": [written(*vector) for vector in WRITTEN],
        "read": [
            {
                "name": name,
                "meaning": meaning,
                "bytes": (bytes((len(data),)) + data).hex(),
                "frame": frame,
            }
            for name, meaning, data, frame in READ
        ],
        "broken": [
            {"name": name, "meaning": meaning, "bytes": data.hex()}
            for name, meaning, data in BROKEN
        ],
    }


def as_text() -> str:
    """The text of frames.json."""
    return json.dumps(vectors(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(as_text(), encoding="utf-8")
