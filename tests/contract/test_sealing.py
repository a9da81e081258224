"""Sealed snapshots: nobody without a key reads or changes one, or passes it off as another session's; and keys are replaced."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statewise.sealing import KeyFilesError, Sealer, SealError
from statewise.v1 import snapshot_pb2

KEYS = {"2026-11": bytes(range(32)), "2026-12": bytes(range(1, 33))}
SEALER = Sealer(KEYS)
SEALED = SEALER.seal("meter 7", b"the snapshot")


def test_what_is_sealed_is_opened_and_shows_nothing_but_its_key_and_session():
    """Twice sealed is never the same."""
    assert SEALER.open(SEALED) == SEALER.open(SEALED, "meter 7") == b"the snapshot"
    assert b"the snapshot" not in SEALED
    assert SEALER.seal("meter 7", b"the snapshot") != SEALED
    told = snapshot_pb2.Sealed.FromString(SEALED[4:])
    assert (told.key_id, told.session_id) == ("2026-12", "meter 7")


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_one_bit_that_differs_is_refused(place, bit):
    """In the data, the nonce, the key's id or the session's."""
    raw = bytearray(SEALED)
    raw[place % len(raw)] ^= 1 << bit
    with pytest.raises(SealError):
        SEALER.open(bytes(raw))


@given(st.integers(1, 10_000))
def test_what_was_cut_is_refused(missing):
    """However little is missing at its end."""
    with pytest.raises(SealError):
        SEALER.open(SEALED[: -(missing % len(SEALED)) or -1])


def test_another_sessions_snapshot_is_refused():
    """Neither as it is nor with another name written on it."""
    with pytest.raises(SealError, match="of session 'meter 7', not of 'meter 8'"):
        SEALER.open(SEALED, "meter 8")
    told = snapshot_pb2.Sealed.FromString(SEALED[4:])
    told.session_id = "meter 8"
    with pytest.raises(SealError, match="does not open it"):
        SEALER.open(SEALED[:4] + told.SerializeToString(), "meter 8")


def test_a_key_is_replaced_by_a_later_one_and_removed_when_it_has_served():
    """The last by name seals; those before open what they sealed, as long as they are there."""
    old = Sealer({"2026-11": KEYS["2026-11"]}).seal("a", b"old")
    assert SEALER.open(old) == b"old"
    with pytest.raises(SealError, match="key '2026-11', which this server does not have"):
        Sealer({"2026-12": KEYS["2026-12"]}).open(old)
    with pytest.raises(SealError, match="does not open it"):
        Sealer({"2026-11": secrets.token_bytes(32)}).open(old)


def test_keys_come_from_a_folder_or_a_file(tmp_path):
    """As Kubernetes mounts a secret: hidden entries beside the files are none of them."""
    (tmp_path / "..data").mkdir()
    (tmp_path / ".hidden").write_text("nothing")
    for name, key in KEYS.items():
        (tmp_path / name).write_text(key.hex() + "\n")
    assert Sealer.of_files(tmp_path).open(SEALED) == b"the snapshot"
    assert Sealer.of_files(tmp_path / "2026-12").open(SEALED) == b"the snapshot"


@pytest.mark.parametrize("content", ["", "00", "zz" * 32, "00" * 33, "\xe9" * 32])
def test_a_file_that_holds_no_key_is_refused_by_name(tmp_path, content):
    """With what makes one."""
    (tmp_path / "1").write_bytes(content.encode("latin-1"))
    with pytest.raises(KeyFilesError, match=f"{tmp_path}/1: a key is 64 hexadecimal digits"):
        Sealer.of_files(tmp_path)


def test_keys_that_are_not_there_are_told_and_not_made(tmp_path):
    """An empty folder, or none."""
    with pytest.raises(KeyFilesError, match="holds no key; make one with: openssl"):
        Sealer.of_files(tmp_path)
    with pytest.raises(KeyFilesError, match="none: No such file"):
        Sealer.of_files(tmp_path / "none")


def test_a_key_of_its_own_is_made_once_for_its_owner_alone(tmp_path):
    """The next run opens what this one sealed."""
    file = tmp_path / "sessions.db.key"
    sealed = Sealer.of_its_own(file).seal("a", b"x")
    assert file.stat().st_mode & 0o777 == 0o600
    assert Sealer.of_its_own(file).open(sealed) == b"x"
