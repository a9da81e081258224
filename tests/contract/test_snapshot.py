"""Snapshots are bytes that others hold: what is read back is what was taken, and anything else is refused, whoever made it."""

import contextlib
import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statewise.durability import Durability, Epoch, Keeping
from statewise.sessions import Kept, Retained
from statewise.snapshot import FARTHEST, FORMAT, Snapshot, SnapshotError, Terms
from statewise.tensors import decode
from statewise.v1 import snapshot_pb2, tensor_pb2

STATES = {"h": np.arange(4, dtype=np.float32), "odd/name": np.zeros((2, 3), np.float64)}
REPLIES = (
    Kept(FARTHEST - 3, 1, 2**64 - 1, {"y": np.ones((1, 2), np.float32)}),
    Kept(FARTHEST - 2, 2, 0, {"y": np.full((2, 2), 7, np.float32)}),
    Kept(FARTHEST - 40, 37, 5, {"y": np.full((1, 2), 8, np.float32)}),  # the last output alone was asked for
)
TERMS = Terms(12.5, 3, Keeping(Durability.CHECKPOINT, 17), b"token")
WHOLE = Snapshot("demand", 3, "abc", FARTHEST, STATES, "spec", "meter 7", Epoch(4, 2**64 - 1), Retained.of(REPLIES), TERMS)

ONE, ONE_OF_TWO = (tensor_pb2.Tensor(name=str(length), data_type=1, shape=[length, 1], data=bytes(4 * length)) for length in (1, 2))
NO_TIME = tensor_pb2.Tensor(name="y", data_type=1, data=bytes(4))


def checked(body):
    return FORMAT + hashlib.sha256(body).digest() + body


def changed(**changes):
    read = snapshot_pb2.Snapshot.FromString(Snapshot("demand", 3, "d", 7, STATES).to_bytes()[len(FORMAT) + 32 :])
    for field, value in changes.items():
        if isinstance(value, list):
            del getattr(read, field)[:]
            getattr(read, field).extend(value)
        elif isinstance(value, int):
            setattr(read, field, value)
        else:
            getattr(read, field).CopyFrom(value)
    return checked(read.SerializeToString())


def replies(start, timesteps, length=0):
    return snapshot_pb2.Replies(starts=[start], timesteps=[timesteps], digests=[1], lengths=[length])


def listed(arrays):
    return {name: (array.dtype, array.tolist()) for name, array in arrays.items()}


def test_a_snapshot_comes_back_as_it_was():
    """Names, types, shapes and values of states and replies survive, and all else that it tells."""
    back = Snapshot.from_bytes(WHOLE.to_bytes())
    for field in ("model", "version", "digest", "position", "spec_digest", "session_id", "epoch", "terms"):
        assert getattr(back, field) == getattr(WHOLE, field), field
    assert listed(back.states) == listed(STATES)
    told = [(each.start, each.timesteps, each.digest, listed(each.outputs)) for each in back.replies]
    assert told == [(each.start, each.timesteps, each.digest, listed(each.outputs)) for each in REPLIES]


def test_what_is_written_is_what_protobuf_would_write():
    """The tensors are put behind the rest, each behind what comes before its data: to a reader that is one message like any."""
    read = snapshot_pb2.Snapshot.FromString(WHOLE.to_bytes()[len(FORMAT) + 32 :])
    assert snapshot_pb2.Snapshot.FromString(read.SerializeToString()) == read
    assert [tensor.name for tensor in read.states] == list(STATES)
    assert (list(read.outputs[0].shape), len(read.outputs[0].data)) == ([4, 2], 32)
    odd = {"empty": np.zeros((0, 2), np.float32), "scalar": np.array(7, np.int64), "turned": np.arange(6.0).reshape(2, 3).T}
    states = snapshot_pb2.Snapshot.FromString(Snapshot("m", 1, "d", 1, odd).to_bytes()[len(FORMAT) + 32 :]).states
    assert [decode(tensor).tolist() for tensor in states] == [array.tolist() for array in odd.values()]
    with pytest.raises(TypeError, match="h: >f4 cannot travel"):
        Snapshot("m", 1, "d", 1, {"h": np.zeros(2, ">f4")}).to_bytes()


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_damage_is_noticed_wherever_it_is(place, change):
    """One byte that differs is enough."""
    raw = bytearray(WHOLE.to_bytes())
    raw[place % len(raw)] ^= change
    with pytest.raises(SnapshotError):
        Snapshot.from_bytes(bytes(raw))


@given(st.integers(1, 10_000))
def test_a_snapshot_that_was_cut_is_refused(missing):
    """However little is missing at its end."""
    raw = WHOLE.to_bytes()
    with pytest.raises(SnapshotError):
        Snapshot.from_bytes(raw[: -(missing % len(raw)) or -1])


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: changed()[36:] + tail))
def test_what_is_no_snapshot_is_refused_or_read_even_with_a_right_checksum(body):
    """Anybody can compute the checksum: what lies behind it ends in a snapshot or a refusal, and in nothing else."""
    with contextlib.suppress(SnapshotError):
        assert 0 <= Snapshot.from_bytes(checked(body)).position <= FARTHEST


@pytest.mark.parametrize("kind", [b"SWS2", b"SWS4", b"SWS\xff"])
def test_another_format_is_refused_by_its_number(kind):
    """What an older or a later version wrote is told apart from what is no snapshot at all."""
    with pytest.raises(SnapshotError, match=r"of format .*reads format 3 alone"):
        Snapshot.from_bytes(kind + WHOLE.to_bytes()[4:])
    with pytest.raises(SnapshotError, match="not a snapshot"):
        Snapshot.from_bytes(b"PK\x03\x04" + WHOLE.to_bytes())


@pytest.mark.parametrize(
    "raw",
    [
        changed(position=FARTHEST + 1),
        changed(states=[tensor_pb2.Tensor(name="h", data_type=1, shape=[1 << 40], data=b"1234")]),
        changed(states=[tensor_pb2.Tensor(name="h", data_type=1, shape=[0, 1 << 40])]),
        changed(states=[tensor_pb2.Tensor(name="h", data_type=99, shape=[1], data=b"1")]),
        changed(states=[tensor_pb2.Tensor(name="h", data_type=6, shape=[1], data=b"\x02")]),
        changed(replies=replies(start=6, timesteps=2)),
        changed(replies=replies(start=6, timesteps=0)),
        changed(replies=replies(start=2**63, timesteps=2**63 + 1)),
        changed(replies=snapshot_pb2.Replies(starts=[6], timesteps=[1], lengths=[0])),
        changed(replies=replies(start=6, timesteps=1, length=1), outputs=[ONE, ONE_OF_TWO]),
        changed(replies=replies(start=6, timesteps=1, length=1), outputs=[NO_TIME]),
        changed(replies=replies(start=6, timesteps=1, length=2**63), outputs=[ONE]),
        changed(outputs=[ONE]),
        changed(terms=snapshot_pb2.Terms(durability=9)),
    ],
    ids=[
        "far",
        "beyond memory",
        "empty",
        "type",
        "bool",
        "a reply beyond",
        "a reply of nothing",
        "a reply that wraps",
        "a reply without a digest",
        "outputs of more timesteps",
        "outputs without timesteps",
        "outputs beyond memory",
        "outputs of no reply",
        "durability",
    ],
)
def test_what_would_harm_is_refused(raw):
    """Positions that would overflow, tensors beyond what is there, replies to steps that were not made."""
    with pytest.raises(SnapshotError):
        Snapshot.from_bytes(raw)
