"""What is made of protos/: `protocol.py generate` writes the stubs, `protocol.py check` holds stubs, lint and compatibility.

Compatibility is held against the newest tag, or the commit before this one where there is none. buf lints and compares images that
protoc built, since the protos of googleapis come from the installed package and not from a registry of buf's.
"""

from __future__ import annotations

import filecmp
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import google.rpc
import grpc_tools
from grpc_tools import protoc

STUBS = Path("service")
BUF = Path(sys.executable).with_name("buf")
FOREIGN = ["statewise/inference"]
"""Names that are not ours to choose: there the rules about names do not hold, and those about comments and compatibility do."""
NAMES = (
    "ENUM_VALUE_PREFIX",
    "ENUM_ZERO_VALUE_SUFFIX",
    "PACKAGE_DIRECTORY_MATCH",
    "PACKAGE_VERSION_SUFFIX",
    "RPC_REQUEST_RESPONSE_UNIQUE",
    "RPC_REQUEST_STANDARD_NAME",
    "RPC_RESPONSE_STANDARD_NAME",
)
LINT = {"use": ["STANDARD", "COMMENTS"], "ignore_only": dict.fromkeys(NAMES, FOREIGN)}
RULES = json.dumps({"version": "v1", "lint": LINT, "breaking": {"use": ["FILE"]}})


def generate(folder: Path) -> None:
    """Writes messages, their types and the service stubs below `folder`."""
    _protoc(Path("protos"), *(f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")))


def check(scratch: Path) -> None:
    """Ends with a message if the stubs are stale, a proto breaks a rule, or a client of before would break."""
    generate(scratch)
    made = [path.relative_to(scratch) for path in scratch.rglob("*_pb2*.py*")]
    stale = [str(path) for path in made if not _same(scratch / path, STUBS / path)]
    if stale:
        sys.exit(f"stubs are not what protos/ says, run `make proto`: {', '.join(stale)}")
    image = _image(Path("protos"), scratch / "now.binpb")
    _buf("lint", image, "--path", "statewise")
    before = _before(scratch)
    if before:
        _buf("breaking", image, "--against", _image(before, scratch / "before.binpb"), "--path", "statewise")
    print("protocol: stubs, lint and compatibility hold" + ("" if before else " (no earlier protocol to compare with)"))


def _protoc(root: Path, *options: str) -> None:
    includes = [root, Path(next(iter(google.rpc.__path__))).parents[1], Path(grpc_tools.__file__).parent / "_proto"]
    protos = sorted(map(str, root.rglob("*.proto")))
    if protoc.main(["protoc", *(f"-I{include}" for include in includes), *options, *protos]):
        sys.exit("protoc failed")


def _image(root: Path, file: Path) -> Path:
    _protoc(root, "--include_imports", "--include_source_info", f"--descriptor_set_out={file}")
    return file


def _buf(*arguments: str | Path) -> None:
    if subprocess.run([BUF, *arguments, "--config", RULES], check=False).returncode:
        sys.exit(f"buf {arguments[0]} found the above")


def _before(scratch: Path) -> Path | None:
    """Returns the protos of the newest tag, or of the commit before, unpacked; `None` if there are none."""
    tag = _git("describe", "--tags", "--abbrev=0").stdout.decode().strip()
    archive = _git("archive", tag or "HEAD~1", "protos")
    if archive.returncode:
        return None
    (scratch / "before.tar").write_bytes(archive.stdout)
    with tarfile.open(scratch / "before.tar") as tar:
        tar.extractall(scratch / "before", filter="data")
    return scratch / "before" / "protos"


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], capture_output=True, check=False)


def _same(one: Path, other: Path) -> bool:
    return other.exists() and filecmp.cmp(one, other, shallow=False)


if sys.argv[1:] == ["generate"]:
    generate(STUBS)
elif sys.argv[1:] == ["check"]:
    with tempfile.TemporaryDirectory() as temporary:
        check(Path(temporary))
else:
    sys.exit(__doc__)
