"""Generates the Python stubs of protos/ into a folder: `generate_stubs.py service`, or checks them: `generate_stubs.py --check`."""

from __future__ import annotations

import filecmp
import sys
import tempfile
from pathlib import Path

import google.rpc
import grpc_tools
from grpc_tools import protoc

PROTOS = sorted(Path("protos").rglob("*.proto"))


def generate(folder: Path) -> None:
    """Writes messages, their types and the service stubs below `folder`."""
    includes = [Path("protos"), Path(next(iter(google.rpc.__path__))).parents[1], Path(grpc_tools.__file__).parent / "_proto"]
    outs = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", *(f"-I{include}" for include in includes), *outs, *map(str, PROTOS)]):
        sys.exit("protoc failed")


def differences(folder: Path) -> list[str]:
    """Returns the stubs in service/ that are not what `folder` holds."""
    made = [path.relative_to(folder) for path in folder.rglob("*_pb2*.py*")]
    return [str(path) for path in made if not _same(folder / path, Path("service") / path)]


def _same(one: Path, other: Path) -> bool:
    return other.exists() and filecmp.cmp(one, other, shallow=False)


if sys.argv[1:] == ["--check"]:
    with tempfile.TemporaryDirectory() as temporary:
        generate(Path(temporary))
        if changed := differences(Path(temporary)):
            sys.exit(f"stubs are not what protos/ says, run `make proto`: {', '.join(changed)}")
else:
    generate(Path(sys.argv[1]))
