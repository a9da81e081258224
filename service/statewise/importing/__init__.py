"""A foreign ONNX file → a version in the repository. No torch is needed.

    file ─ foreign (read) ─ roles, pairs (what each input is for) ─ layout, trial, examined (its axes, dry runs, parity vectors)
         ─ normal, adapters (the same model as it is served, with its spec) ─ loaded as the server will load it ─ published

What is told (`Asked`) comes from the options of the command, or from a Triton model folder (`triton/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from statewise.catalog import Loaded, LoadError, load
from statewise.importing.asked import Asked
from statewise.importing.examined import Examined, examine
from statewise.importing.foreign import Foreign, read
from statewise.importing.normal import normal
from statewise.importing.problems import Refused
from statewise.repository import MODEL_FILE, Repository
from statewise.spec import METADATA_KEY, ModelSpec

__all__ = ["Asked", "Foreign", "Imported", "Refused", "prepare", "publish", "read"]

CHECKED_BATCH = 4


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """A file that can be published.

    Attributes:
        raw: the file as it is served.
        spec: what it says of itself.
        loaded: of it, as the server will load it, its parity vectors held.
        examined: what was found; `None` for a file that described itself already.
    """

    raw: bytes
    spec: ModelSpec
    loaded: Loaded
    examined: Examined | None


def prepare(foreign: Foreign, asked: Asked) -> Imported:
    """Returns a foreign file made ready to be published; raises `Refused` saying why it cannot be."""
    if _describes_itself(foreign):
        loaded = _loaded(foreign.raw)
        return Imported(foreign.raw, loaded.spec, loaded, None)
    examined = examine(foreign, asked)
    made = normal(examined, asked)
    raw = made.model.SerializeToString()
    return Imported(raw, made.spec, _loaded(raw), examined)


def publish(imported: Imported, repository: Path, model: str, *, promote: bool = False) -> int:
    """Adds the file to the repository as the model's next version and returns its number; raises `RepositoryError`."""

    def write(folder: Path) -> None:
        (folder / MODEL_FILE).write_bytes(imported.raw)

    return Repository(repository).publish(model, write, promote=promote)


def _describes_itself(foreign: Foreign) -> bool:
    return any(entry.key == METADATA_KEY for entry in foreign.model.metadata_props)


def _loaded(raw: bytes) -> Loaded:
    with TemporaryDirectory(prefix="statewise-import-") as folder:
        file = Path(folder) / MODEL_FILE
        file.write_bytes(raw)
        try:
            return load("imported", 1, file, CHECKED_BATCH, "CPUExecutionProvider", 1)
        except LoadError as problem:
            why = str(problem).removeprefix(f"{file}: ")
            raise Refused(f"as it would be served it does not hold: {why}") from problem
