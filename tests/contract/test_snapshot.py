"""Snapshots are bytes that clients hold: what is read back is what was taken, and anything else is refused, whoever made it."""

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statewise.snapshot import FARTHEST, FORMAT, Snapshot, SnapshotError

STATES = {"h": np.arange(4, dtype=np.float32), "odd/name": np.zeros((2, 3), np.float64)}
BEYOND = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }"


def sealed(body):
    return FORMAT + hashlib.sha256(body).digest() + body


def archive(about, *, compression=zipfile.ZIP_STORED, **members):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", compression) as made:
        for name, array in {"about": np.frombuffer(about, np.uint8), **members}.items():
            held = io.BytesIO()
            np.save(held, array)
            made.writestr(f"{name}.npy", held.getvalue() if isinstance(array, np.ndarray) else array)
    return body.getvalue()


def about(**changes):
    return json.dumps({"model": "demand", "version": 3, "digest": "d", "position": 7, **changes}).encode()


def test_a_snapshot_comes_back_as_it_was():
    """Names, types, shapes, values and the position survive."""
    back = Snapshot.from_bytes(Snapshot("demand", 3, "abc", FARTHEST, STATES).to_bytes())
    assert (back.model, back.version, back.digest, back.position) == ("demand", 3, "abc", FARTHEST)
    assert {name: (array.dtype, array.tolist()) for name, array in back.states.items()} == {
        name: (array.dtype, array.tolist()) for name, array in STATES.items()
    }


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_damage_is_noticed_wherever_it_is(place, change):
    """One byte that differs is enough."""
    raw = bytearray(Snapshot("demand", 3, "abc", 7, STATES).to_bytes())
    raw[place % len(raw)] ^= change
    with pytest.raises(SnapshotError):
        Snapshot.from_bytes(bytes(raw))


@given(st.binary(max_size=200) | st.sampled_from([b"PK\x03\x04", b"\x93NUMPY"]).flatmap(lambda head: st.binary().map(head.__add__)))
def test_what_is_no_snapshot_is_refused_even_with_a_right_checksum(body):
    """Anybody can compute the checksum: what lies behind it is read with care."""
    with pytest.raises(SnapshotError):
        Snapshot.from_bytes(sealed(body))


@pytest.mark.parametrize(
    "body",
    [
        archive(about(position=-1)),
        archive(about(position=FARTHEST + 1)),
        archive(about(position="far")),
        archive(about(version=None)),
        archive(b"[]"),
        archive(b"{"),
        archive(b"[" * 100_000),
        archive(
            about(), **{"state/h": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }"}
        ),
        archive(about(), compression=zipfile.ZIP_DEFLATED, **{"state/h": np.zeros(10_000_000)}),
        archive(about(), **{"state/h": np.array([object()], object)}),
    ],
    ids=["position below", "position above", "position", "version", "list", "half", "depth", "beyond memory", "bomb", "objects"],
)
def test_what_would_harm_is_refused(body):
    """Positions that would overflow, arrays beyond memory, archives that grow when they are read, and pickles."""
    with pytest.raises(SnapshotError):
        Snapshot.from_bytes(sealed(body))
