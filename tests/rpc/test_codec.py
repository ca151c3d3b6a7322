"""Messages in envelopes."""

from __future__ import annotations

import pytest
from rpc.notes import CANCEL, END, NORMAL, NOTES, Note, NoteCodec

from protosocket_rpc.errors import DecodeError
from protosocket_rpc.rpc.codec import OVERHEAD, EnvelopeCodec
from protosocket_rpc.rpc.message import Envelope


def codec() -> EnvelopeCodec[Note, Note]:
    return EnvelopeCodec(NoteCodec(), NOTES)


def test_an_envelope_tells_id_code_and_message() -> None:
    note = Note("hello", 7, END)
    envelopes: list[Envelope[Note]] = []
    data = NoteCodec().encode(note)
    assert codec().decode(data, envelopes) == len(data)
    (envelope,) = envelopes
    assert (envelope.id, envelope.code, envelope.message) == (7, END, note)
    assert envelope.size == len(data) + OVERHEAD


@pytest.mark.parametrize("code", [-1, 3, 4, 255, 1 << 31])
def test_unknown_control_codes_are_cancels(code: int) -> None:
    envelopes: list[Envelope[Note]] = []
    codec().decode(NoteCodec().encode(Note("", 1, code)), envelopes)
    assert envelopes[0].code == CANCEL


@pytest.mark.parametrize("code", [NORMAL, CANCEL, END])
def test_known_control_codes_are_kept(code: int) -> None:
    envelopes: list[Envelope[Note]] = []
    codec().decode(NoteCodec().encode(Note("", 1, code)), envelopes)
    assert envelopes[0].code == code


def test_every_way_to_split_the_bytes() -> None:
    notes = [Note("a", 1), Note("b" * 300, 2), Note("", 3, END)]
    data = b"".join(map(NoteCodec().encode, notes))
    for cut in range(len(data) + 1):
        one = codec()
        envelopes: list[Envelope[Note]] = []
        end = one.decode(data[:cut], envelopes)
        assert one.needed() <= len(data) - end
        one.decode(data[end:], envelopes)
        assert [envelope.message for envelope in envelopes] == notes


def test_what_the_codec_keeps_is_unfinished() -> None:
    class Keeping(NoteCodec):
        unfinished = True

    assert EnvelopeCodec(Keeping(), NOTES).unfinished
    assert not codec().unfinished


def test_what_precedes_broken_bytes_is_delivered() -> None:
    envelopes: list[Envelope[Note]] = []
    with pytest.raises(DecodeError):
        codec().decode(NoteCodec().encode(Note("a", 1)) + b"\xce\0\0\0\1\xc1", envelopes)
    assert [envelope.message.text for envelope in envelopes] == ["a"]


def test_sizes_of_a_batch_add_up_to_its_bytes() -> None:
    notes = [Note("x" * 100, id) for id in range(8)]
    data = b"".join(map(NoteCodec().encode, notes))
    envelopes: list[Envelope[Note]] = []
    codec().decode(data, envelopes)
    total = sum(envelope.size - OVERHEAD for envelope in envelopes)
    assert len(data) - len(notes) < total <= len(data)


def test_encodes_as_the_codec_does() -> None:
    note = Note("hello", 7)
    assert codec().encode(note) == NoteCodec().encode(note)
