"""A Triton model folder → the file to import and what its `config.pbtxt` tells of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from statewise.importing.asked import EVERY, Asked, Fed
from statewise.importing.foreign import Foreign
from statewise.importing.problems import Refused
from statewise.importing.triton.names import CONFIG_FILE, DTYPES, FALSE_TRUE, KINDS, STATES_FOLDER
from statewise.importing.triton.pbtxt import Fields, parse


@dataclass(frozen=True, slots=True, eq=False)
class Folder:
    """What a model folder holds.

    Attributes:
        file: the ONNX file of the version.
        left: the fields of the config that are not carried over.
        dtypes: of inputs and outputs, as the config has them.
    """

    name: str
    file: Path
    asked: Asked
    left: tuple[str, ...]
    dtypes: dict[str, str]

    def check(self, foreign: Foreign) -> None:
        """Raises `Refused` where the config and the file differ."""
        ports = {**foreign.inputs, **foreign.outputs}
        for name, dtype in self.dtypes.items():
            if name not in ports:
                raise Refused(f"{CONFIG_FILE} names {name!r}, which the file does not have; it has {', '.join(ports)}")
            if ports[name].dtype != dtype:
                raise Refused(f"{CONFIG_FILE} says that {name!r} is {dtype}, the file that it is {ports[name].dtype}")


def read_folder(folder: Path, version: int = 0) -> Folder:
    """Reads a model folder; `version` 0 is the newest. Raises `Refused`, and `OSError` where it cannot be read."""
    if not (folder / CONFIG_FILE).is_file():
        raise Refused(f"{folder} has no {CONFIG_FILE}, so it is no model folder of Triton's; name an ONNX file instead")
    config = parse((folder / CONFIG_FILE).read_text(encoding="utf-8"), str(folder / CONFIG_FILE))
    _check_backend(config)
    name = config.one("name", folder.resolve().name)
    batch = config.one("max_batch_size", 0)
    dtypes = {each.one("name", ""): each for field in ("input", "output") for each in config.all(field)}
    for each in dtypes.values():
        each.all("dims")  # the file tells
    sequences = config.inside("sequence_batching")
    asked = _states(sequences, folder)
    asked = replace(
        asked,
        controls=_controls(sequences),
        batch=batch,
        batch_axis={EVERY: 0, **dict.fromkeys(dict(asked.states), 0)} if batch else {EVERY: None},
        idle_timeout_seconds=sequences.one("max_sequence_idle_microseconds", 0) / 1e6,
    )
    known = {name: _dtype(each.one("data_type", ""), name) for name, each in dtypes.items()}
    return Folder(name, _file(folder, config, version), asked, tuple(dict.fromkeys(config.left())), known)


def _check_backend(config: Fields) -> None:
    backend, platform = config.one("backend", ""), config.one("platform", "")
    if backend not in ("", "onnxruntime") or platform not in ("", "onnxruntime_onnx"):
        raise Refused(f"its backend is {backend or platform!r}; only models of ONNX Runtime are ONNX files")


def _file(folder: Path, config: Fields, version: int) -> Path:
    numbers = sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal() and entry.is_dir())
    if not numbers or (version and version not in numbers):
        raise Refused(f"{folder} has no version {version or ''}; it has: {', '.join(map(str, numbers)) or 'none'}")
    file: Path = folder / str(version or numbers[-1]) / config.one("default_model_filename", "model.onnx")
    if file.is_dir():
        raise Refused(f"{file} is a folder: a model whose weights lie outside of its file cannot be imported")
    return file


def _states(sequences: Fields, folder: Path) -> Asked:
    pairs, initial = [], {}
    for state in sequences.all("state"):
        taken = state.one("input_name", "")
        pairs.append((taken, state.one("output_name", "")))
        dtype = _dtype(state.one("data_type", ""), taken)
        state.all("dims")
        for first in state.all("initial_state"):
            initial[taken] = _first(first, dtype, taken, folder)
    return Asked(states=tuple(pairs), initial=initial)


def _first(first: Fields, dtype: str, state: str, folder: Path) -> Any:
    """Returns the initial value of a state: zero, or the elements in a file."""
    for ignored in ("name", "dims", "data_type"):
        first.all(ignored)
    if "data_file" not in first:
        first.all("zero_data")
        return 0
    file = folder / STATES_FOLDER / first.one("data_file")
    raw = file.read_bytes()
    if not raw or len(raw) % np.dtype(dtype).itemsize:
        raise Refused(f"{file} holds {len(raw)} bytes, which are no elements of {dtype}, the state {state!r}")
    return np.frombuffer(raw, np.dtype(dtype).newbyteorder("<"))


def _controls(sequences: Fields) -> dict[str, Fed]:
    fed = {}
    for entry in sequences.all("control_input"):
        name = entry.one("name", "")
        for control in entry.all("control"):
            kind = control.one("kind", "CONTROL_SEQUENCE_START")
            if kind not in KINDS:
                raise Refused(f"{CONFIG_FILE}: control input {name!r} is of kind {kind!r}; known are {', '.join(KINDS)}")
            values: list[float] = next((control.all(field) for field in FALSE_TRUE.values() if field in control), [])
            control.all("data_type")
            off, on = map(float, values) if len(values) == 2 else (0.0, 1.0)
            fed[name] = Fed(KINDS[kind], off, on)
    return fed


def _dtype(name: str, tensor: str) -> str:
    if name not in DTYPES:
        raise Refused(f"{CONFIG_FILE}: {tensor!r} is {name or 'of no type'}; served are {', '.join(DTYPES)}")
    return DTYPES[name]
