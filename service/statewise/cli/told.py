"""What `statewise import` is told of a file: its options read, and refused by name where they cannot be."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import numpy as np

from statewise.importing.asked import EVERY, Fed
from statewise.reading.problems import BadInput
from statewise.spec import Control


def pairs_of(words: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Reads `--state INPUT:OUTPUT`; names may hold colons, as long as one reading is left."""
    pairs = []
    for word in words:
        taken, colon, returned = word.partition(":")
        if not (taken and colon and returned):
            raise BadInput(f"--state takes INPUT:OUTPUT, not {word!r}")
        pairs.append((taken, returned))
    return tuple(pairs)


def values_of(option: str, words: Iterable[str]) -> dict[str, Any]:
    """Reads NAME=VALUE: a number, true or false, numbers with commas between, or an array in a file (.npy)."""
    return {name: _value(option, name, text) for name, text in _named(option, words, "NAME=VALUE")}


def lengths_of(words: Iterable[str]) -> dict[str, int]:
    """Reads `--dim NAME=LENGTH`."""
    lengths = {}
    for name, text in _named("--dim", words, "NAME=LENGTH"):
        if not text.isdecimal() or not int(text):
            raise BadInput(f"--dim {name} takes a length of 1 or more, not {text!r}")
        lengths[name] = int(text)
    return lengths


def axes_of(option: str, words: Iterable[str]) -> dict[str, int | None]:
    """Reads AXIS of all tensors, or TENSOR=AXIS of one: a number, or none."""
    axes: dict[str, int | None] = {}
    for word in words:
        name, equals, text = word.rpartition("=")
        if text != "none" and not text.lstrip("-").isdecimal():
            raise BadInput(f"{option} takes AXIS or TENSOR=AXIS, a number or none, not {word!r}")
        axes[name if equals else EVERY] = None if text == "none" else int(text)
    return axes


def controls_of(words: Iterable[str]) -> dict[str, Fed]:
    """Reads `--control KIND=INPUT` or `KIND=INPUT:NO:YES`."""
    kinds: tuple[Control, ...] = get_args(Control)
    controls = {}
    for word, text in _named("--control", words, "KIND=INPUT"):
        name, *values = text.split(":")
        kind = next((each for each in kinds if each == word), None)
        if kind is None:
            raise BadInput(f"--control: {word!r} is not one of {', '.join(kinds)}")
        try:
            off, on = map(float, values or (0, 1))
        except ValueError:
            raise BadInput(f"--control {kind}={name}:NO:YES takes two numbers, not {':'.join(values)!r}") from None
        controls[name] = Fed(kind, off, on)
    return controls


def _named(option: str, words: Iterable[str], takes: str) -> Iterable[tuple[str, str]]:
    for word in words:
        name, _, text = word.partition("=")
        if not (name and text):
            raise BadInput(f"{option} takes {takes}, not {word!r}")
        yield name, text


def _value(option: str, name: str, text: str) -> Any:
    if text.endswith(".npy"):
        try:
            return np.load(Path(text), allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BadInput(f"{option} {name}: cannot read {text}: {error}") from error
    words = {"true": 1.0, "false": 0.0}
    try:
        values = [words[word.strip()] if word.strip() in words else _number(word) for word in text.split(",")]
    except ValueError:
        raise BadInput(f"{option} {name} takes a number, numbers with commas between, or a .npy file, not {text!r}") from None
    return np.array(values) if len(values) > 1 else np.array(values[0])


def _number(word: str) -> float:
    return int(word) if word.strip().lstrip("+-").isdecimal() else float(word)
