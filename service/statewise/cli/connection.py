"""The options of commands that talk to a server: where it is, and what to show it. Each is an environment variable, too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statewise.access import AccessError, read_keys
from statewise.client import Client
from statewise.errors import InvalidInput
from statewise.reading.problems import BadInput

Address = Annotated[str, typer.Option(help="HOST:PORT of the server.", envvar="STATEWISE_ADDRESS")]
Tls = Annotated[
    bool, typer.Option("--tls", help="Speak TLS, with the certificate authorities that gRPC brings.", envvar="STATEWISE_TLS")
]
TlsCa = Annotated[
    Path | None,
    typer.Option(help="Speak TLS, with the authorities of this PEM file alone.", envvar="STATEWISE_TLS_CA", show_default=False),
]
BearerKeyFile = Annotated[
    Path | None,
    typer.Option(help="Show the first key of this file.", envvar="STATEWISE_BEARER_KEY_FILE", show_default=False),
]


def client(address: str, tls: bool, tls_ca: Path | None, bearer_key_file: Path | None) -> Client:
    """Returns a client of the server that the options name; raises `BadInput`."""
    try:
        key = read_keys(bearer_key_file)[0] if bearer_key_file else ""
        return Client(address, tls=tls, tls_ca=tls_ca, bearer_key=key)
    except (AccessError, InvalidInput) as problem:
        raise BadInput(str(problem)) from problem
