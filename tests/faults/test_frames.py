"""Whatever bytes come, cut wherever: a channel finds the frames that were sent, or that they are damaged."""

from __future__ import annotations

import os
import socket
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstale.engines.live import frames
from unstale.engines.live.frames import Channel, DamagedFrame, Frame, Kind, _framed, packed, unpacked

SENT = st.lists(st.builds(Frame, st.sampled_from(Kind), st.binary(max_size=50)), min_size=1, max_size=4)


def framed(sent: Iterable[Frame]) -> bytes:
    return b"".join(_framed(*frame) for frame in sent)


def heard(content: bytes, cuts: Iterable[int] = ()) -> tuple[list[Frame], str]:
    """What comes of bytes that arrive in pieces: frames, and how it ends."""
    mine, theirs = socket.socketpair()
    line, found, ends = Channel(theirs), list[Frame](), sorted({*cuts, len(content)})
    try:
        for start, end in zip([0, *ends], ends, strict=False):
            mine.sendall(content[start:end])
            for frame in line.receive():
                found.append(frame)  # those before a damaged one count
        mine.close()
        assert not list(line.receive())
        return found, "closed" if line.closed else "open"
    except DamagedFrame:
        return found, "damaged"
    finally:
        mine.close()
        line.close()


@settings(max_examples=100, deadline=None)
@given(SENT, st.lists(st.integers(0, 200)))
def test_frames_come_as_they_were_sent_however_they_are_cut(sent: list[Frame], cuts: list[int]) -> None:
    content = framed(sent)
    assert heard(content, (min(cut, len(content)) for cut in cuts)) == (sent, "closed")


@settings(max_examples=200, deadline=None)
@given(SENT, st.data())
def test_a_bit_that_flips_anywhere_is_found(sent: list[Frame], data: st.DataObject) -> None:
    content = bytearray(framed(sent))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    before = [n for n in range(len(sent)) if len(framed(sent[: n + 1])) <= place]
    assert heard(bytes(content), [place]) == (sent[: len(before)], "damaged")


@settings(max_examples=100, deadline=None)
@given(SENT, st.data())
def test_what_is_cut_short_is_not_made_up(sent: list[Frame], data: st.DataObject) -> None:
    content = framed(sent)
    end = data.draw(st.integers(0, len(content)))
    whole = [n for n in range(len(sent)) if len(framed(sent[: n + 1])) <= end]
    assert heard(content[:end]) == (sent[: len(whole)], "closed")


@settings(max_examples=200, deadline=None)
@given(SENT, st.binary(max_size=60), st.data())
def test_other_bytes_among_them_make_no_frame(sent: list[Frame], junk: bytes, data: st.DataObject) -> None:
    content = framed(sent)
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    found, _ = heard(content[:start] + junk + content[end:], [start])
    left = iter(sent)
    assert all(frame in left for frame in found), "in their order, though some may be gone as a whole"


def test_a_length_alone_takes_no_memory() -> None:
    """256 MiB are announced, and do not come."""
    empty = _framed(Kind.PUSH)
    header = frames._HEADER.pack(frames._MAGIC, Kind.PUSH, 1 << 28, 0)
    content = header + frames._CHECK.pack(zlib.crc32(header)) + b"\0" * 1000
    tracemalloc.start()
    try:
        assert heard(empty + content, [len(empty)]) == ([Frame(Kind.PUSH, b"")], "closed")
        assert tracemalloc.get_traced_memory()[1] < 4 * frames._CHUNK
    finally:
        tracemalloc.stop()


def test_a_length_beyond_reason_is_not_waited_for() -> None:
    header = frames._HEADER.pack(frames._MAGIC, Kind.PUSH, frames._LARGEST + 1, 0)
    assert heard(header + frames._CHECK.pack(zlib.crc32(header))) == ([], "damaged")


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=100) | st.integers(0, 2**64 - 1).map(lambda n: n.to_bytes(8, "little") + b"{}"))
def test_bytes_that_are_no_tensors_are_damaged(content: bytes) -> None:
    try:
        found = unpacked(content)
    except DamagedFrame:
        return
    assert unpacked(packed(found)) == found == ()


def test_who_is_eager_looks_before_it_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = socket.socketpair()
    line, other = Channel(here), Channel(there)
    looks = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            other.send(Kind.STOP)

    monkeypatch.setattr(os, "sched_yield", look)
    assert line.next(eager=60.0) == Frame(Kind.STOP, b"")
    assert len(looks) == 3
    other.send(Kind.UP)
    assert line.next() == Frame(Kind.UP, b"")
    assert len(looks) == 3
    line.close()
    other.close()
