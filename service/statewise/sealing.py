"""Snapshots that leave the server are sealed: AES-256-GCM under one of the server's keys, bound to their session.

Whoever holds a sealed snapshot, a client or a store, can neither read it, nor change it, nor pass it off as another session's. A
key is a file of 64 hexadecimal digits; its name is the key's id. A folder may hold several: the last by name seals, all of them
open, so a key is replaced by adding one of a later name (`2026-12` after `2026-11`), and removed when nothing it sealed is left.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from statewise.v1 import snapshot_pb2

SEALED = b"SWX1"
_KEY_BYTES = 32
_NONCE_BYTES = 12


class SealError(ValueError):
    """Bytes that none of the keys opens; the message says why."""


class KeyFilesError(ValueError):
    """The keys cannot be read; the message names the file and what it takes."""


class Sealer:
    """Seals under the newest of the keys, and opens what any of them sealed. Used by one thread at a time or by several."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._newest = max(keys)

    def __repr__(self) -> str:
        return f"<Sealer under {self._newest!r}, opens {len(self._ciphers)} keys>"

    @classmethod
    def of_files(cls, path: Path) -> Sealer:
        """Reads a key's file, or all those of a folder but for hidden ones; raises `KeyFilesError`."""
        try:
            files = sorted(each for each in path.iterdir() if each.is_file() and each.name[0] != ".") if path.is_dir() else [path]
            keys = {each.name: _key(each) for each in files}
        except OSError as problem:
            raise KeyFilesError(f"{problem.filename}: {problem.strerror}") from problem
        if not keys:
            raise KeyFilesError(f"{path}: holds no key; make one with: openssl rand -hex {_KEY_BYTES} > {path}/1")
        return cls(keys)

    @classmethod
    def of_its_own(cls, path: Path) -> Sealer:
        """Reads the key's file at `path`, which is made, for its owner alone, if it is not there; raises `KeyFilesError`."""
        try:
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(secrets.token_hex(_KEY_BYTES) + "\n")
        except FileExistsError:
            pass
        except OSError as problem:
            raise KeyFilesError(f"{path}: {problem.strerror}") from problem
        return cls.of_files(path)

    @classmethod
    def of_this_run(cls) -> Sealer:
        """Returns a sealer whose key nobody else ever has: for what does not leave the process."""
        return cls({"1": secrets.token_bytes(_KEY_BYTES)})

    def seal(self, session_id: str, snapshot: bytes) -> bytes:
        """Returns a snapshot sealed for a session."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        data = self._ciphers[self._newest].encrypt(nonce, snapshot, _bound(self._newest, session_id))
        return SEALED + snapshot_pb2.Sealed(key_id=self._newest, session_id=session_id, nonce=nonce, data=data).SerializeToString()

    def open(self, sealed: bytes, session_id: str | None = None) -> bytes:
        """Returns the snapshot; raises `SealError`.

        Args:
            session_id: whose it must be; `None` for anybody's.
        """
        if not sealed.startswith(SEALED):
            raise SealError("these bytes are not a sealed snapshot of this version of Statewise")
        try:
            read = snapshot_pb2.Sealed.FromString(sealed[len(SEALED) :])
        except DecodeError as problem:
            raise SealError(f"it cannot be read: {problem}") from problem
        if session_id is not None and read.session_id != session_id:
            raise SealError(f"it is of session {read.session_id!r}, not of {session_id!r}")
        if read.key_id not in self._ciphers:
            raise SealError(f"it was sealed with key {read.key_id!r}, which this server does not have")
        try:
            return self._ciphers[read.key_id].decrypt(read.nonce, read.data, _bound(read.key_id, read.session_id))
        except (InvalidTag, ValueError) as problem:
            message = f"key {read.key_id!r} does not open it: it was changed, or sealed with another key of that name"
            raise SealError(message) from problem


def is_sealed(raw: bytes) -> bool:
    """Whether bytes say that they are a sealed snapshot."""
    return raw.startswith(SEALED)


def _bound(key_id: str, session_id: str) -> bytes:
    """Returns what is authenticated beside the snapshot."""
    return SEALED + len(key_id).to_bytes(4) + key_id.encode() + session_id.encode()


def _key(file: Path) -> bytes:
    try:
        key = bytes.fromhex(file.read_text("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise KeyFilesError(f"{file}: a key is {2 * _KEY_BYTES} hexadecimal digits (openssl rand -hex {_KEY_BYTES})")
    return key
