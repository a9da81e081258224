"""The server's certificate: files → gRPC's credentials. A renewed certificate is used from the next handshake on."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from statewise.access import AccessError
from statewise.rpc.watched import Watched


def server_credentials(certificate: Path, key: Path, client_ca: Path | None) -> grpc.ServerCredentials:
    """Returns credentials that follow the files; with `client_ca`, clients must show a certificate that it signed.

    Raises:
        AccessError: a file cannot be read, or the key is not the certificate's.
    """
    files = [file for file in (certificate, key, client_ca) if file]
    watched = Watched(files, lambda: _read(certificate, key, client_ca))
    first = watched.current()
    return grpc.dynamic_ssl_server_credentials(first, watched.current, require_client_authentication=client_ca is not None)


def _read(certificate: Path, key: Path, client_ca: Path | None) -> grpc.ServerCertificateConfiguration:
    pair = (_bytes(key, "tls_key"), _bytes(certificate, "tls_certificate"))
    roots = _bytes(client_ca, "tls_client_ca") if client_ca else None
    _check(certificate, key, client_ca)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)


def _bytes(file: Path, field: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as problem:
        raise AccessError(f"{field}: cannot read {file}: {problem.strerror}") from problem


def _check(certificate: Path, key: Path, client_ca: Path | None) -> None:
    """Refuses what gRPC would take and then fail every handshake with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # without it, a key with a password asks at the terminal
    except (ssl.SSLError, ValueError) as problem:
        told = f"{key} is not the key of {certificate}, or one of them is not PEM, or the key has a password"
        raise AccessError(f"tls_key: {told}") from problem
    try:
        if client_ca:
            context.load_verify_locations(client_ca)
    except ssl.SSLError as problem:
        raise AccessError(f"tls_client_ca: {client_ca} has no certificate in PEM") from problem
