"""A certificate authority of this test run, and files as an operator would lay them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme

LOCAL = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Files:
    """PEM files: the authority's certificate, and a pair that it signed."""

    authority: Path
    certificate: Path
    key: Path

    def options(self) -> tuple[str, ...]:
        """Returns the options by which a server uses the pair."""
        return ("--tls-certificate", str(self.certificate), "--tls-key", str(self.key))


def issue(authority: trustme.CA, folder: Path, *names: str) -> Files:
    """Writes a pair for the names (this machine's, if there are none), each file whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = authority.issue_cert(*(names or LOCAL))
    files = Files(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")
    replace(files.authority, authority.cert_pem.bytes())
    replace(files.certificate, b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    replace(files.key, pair.private_key_pem.bytes())
    return files


def replace(file: Path, content: bytes) -> None:
    """Writes a file beside its place and moves it there."""
    part = file.with_suffix(".part")
    part.write_bytes(content)
    part.replace(file)
