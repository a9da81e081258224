"""What a report tells, in the order in which one asks: how good, learned how, from what, made how, and is this the file?"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any

from statewise_models.export import Exported
from statewise_models.report.page import Pairs, Section, Tile, page
from statewise_models.sheet import Sheet
from statewise_models.training import Trained
from statewise_models.training.history import best

WIDTH = 5.6  # inches: letters that can still be read on a phone
LIBRARIES = ("statewise", "torch", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "pandas")
OF_OTHER_TASKS = {
    "forecast": {"embedding"},
    "classify": {"embedding", "window", "difference"},
    "tokens": {"calendar", "harmonics", "difference", "missing"},
}


@dataclass(frozen=True, slots=True)
class Origin:
    """How a version came to be, in its maker's words.

    Attributes:
        data: the file that it learned from.
        command: what was typed.
        start: the version that it started from, or empty.
    """

    data: str
    command: str
    start: str = ""


def report(
    model: str,
    trained: Trained,
    scores: Sequence[Sheet],
    origin: Origin,
    exported: Exported,
    more: Sequence[Section] = (),
    first: Sequence[Section] = (),
) -> str:
    """Returns the page about a version.

    Args:
        model: its name.
        trained: the run.
        scores: its errors beside the baselines'.
        origin: where it came from.
        exported: the file as it will be published.
        more: further sections, shown after those about learning.
        first: sections that must be read before all others.
    """
    config = trained.network.config
    figures = trained.draw(WIDTH)
    loss = (("loss", figures.pop("loss")),)
    facts = trained.facts
    made = datetime.now(UTC)
    kind = f"{config.cell}, int8" if exported.int8 else config.cell
    subtitle = f"{config.task} · {kind} · {trained.parameters:,} parameters · {made:%d %B %Y}"
    sections = [
        *first,
        Section("How good it is", _judged(trained), tuple(figures.items()), tuple(scores)),
        Section("How it learned", _learned(trained, origin), loss),
        *more,
        Section("What it learned from", _NOTES[config.task], sheets=facts.sheets, pairs=(("file", origin.data), *facts.amounts)),
        Section("Settings", pairs=_settings(trained)),
        *([Section("A text that it made", text=trained.metrics["sample"])] if "sample" in trained.metrics else []),
        Section("How it was made", pairs=_making(trained, origin, made), text=origin.command),
        Section(
            "Is this the file?",
            _SAME + (_HELD_INT8 if exported.int8 else _HELD),
            pairs=_identity(exported),
            text=f"SHA-256  {exported.digest}",
        ),
    ]
    return page(f"{model}@{exported.version}", subtitle, _tiles(trained, exported), sections)


_NOTES = {
    "forecast": "* of the training part alone, which is what the model scales by; ranges and missing values are of all rows.",
    "classify": "* of the training part alone, which is what the model scales by; ranges and missing values are of all rows.",
    "tokens": "",
}
_SAME = "The server gives the same digest for what it serves (GetModel), and sha256sum model.onnx beside this page. "
_HELD = (
    "Before it was published, the file was run in ONNX Runtime and held against the network in torch, over carried states and "
    "ragged batches."
)
_HELD_INT8 = (
    "Before it was published, the float32 graph was run in ONNX Runtime and held against the network in torch, over carried states "
    "and ragged batches, and this file against the float32 graph."
)


def _tiles(trained: Trained, exported: Exported) -> list[Tile]:
    kept = best(trained.history)
    return [
        *_HEADLINES[trained.network.config.task](trained.metrics.get(trained.reported, {}), trained.reported + _of(exported)),
        Tile("kept epoch", f"{kept.number}", f"of {len(trained.history)}"),
        Tile(
            f"torch and ONNX Runtime{_of(exported)}",
            f"{exported.largest_difference:.0e}",
            "largest difference, as a share of the scale",
        ),
    ]


def _of(exported: Exported) -> str:
    return ", float32" if exported.int8 else ""


def _forecast_tiles(figures: dict[str, Any], split: str) -> list[Tile]:
    tiles = []
    for target, methods in list(figures.items())[:2]:
        if not methods:
            continue
        others = {name: scores["rmse"] for name, scores in methods.items() if name != "model"}
        name = min(others, key=lambda other: float(others[other]), default="")
        note = f"{name}: {others[name]:,.4g}" if name else ""
        tiles.append(Tile(f"{target}, RMSE, {split}", f"{methods['model']['rmse']:,.4g}", note))
    return tiles


def _classify_tiles(figures: dict[str, Any], split: str) -> list[Tile]:
    frequent = f"always the most frequent label: {figures['majority']:.1%}"
    return [Tile(f"right, {split}", f"{figures['accuracy']:.1%}", frequent)]


def _tokens_tiles(figures: dict[str, Any], split: str) -> list[Tile]:
    return [Tile(f"bits a token, {split}", f"{figures['bits_per_token']:.3f}", f"by frequency: {figures['frequency_bits']:.3f}")]


_HEADLINES = {"forecast": _forecast_tiles, "classify": _classify_tiles, "tokens": _tokens_tiles}


def _judged(trained: Trained) -> str:
    if trained.settings.test:
        return "Beside what needs no model. The test part was seen by nothing but this table."
    return "Beside what needs no model. There is no test part: the best epoch was chosen by what is shown, so expect worse."


def _learned(trained: Trained, origin: Origin) -> str:
    kept = best(trained.history).number
    begun = f"It started from {origin.start}. " if origin.start else ""
    took = f"{len(trained.history)} epochs in {trained.seconds:,.1f} s"
    return f"{begun}{took}; the weights of epoch {kept} were kept, the best by the validation part."


def _settings(trained: Trained) -> Pairs:
    config = trained.network.config
    left_out = OF_OTHER_TASKS[config.task] | ({"activation"} if config.cell != "elman" else set())
    left_out |= set() if config.calendar else {"harmonics"}
    told = {name: _told(value) for name, value in trained.settings.as_dict().items() if name not in left_out}
    return tuple((name.replace("_", " "), value) for name, value in told.items())


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}={choice}" for name, choice in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _making(trained: Trained, origin: Origin, made: datetime) -> Pairs:
    return (
        ("made", f"{made:%Y-%m-%d %H:%M} UTC"),
        *([("started from", origin.start)] if origin.start else []),
        ("seconds of training", f"{trained.seconds:,.1f}"),
        ("seed", str(trained.settings.seed)),
        ("Python", platform.python_version()),
        *((name, version) for name in LIBRARIES if (version := _installed(name))),
    )


def _installed(name: str) -> str:
    try:
        return version_of(name)
    except PackageNotFoundError:
        return ""


def _identity(exported: Exported) -> Pairs:
    return (
        ("bytes", f"{exported.bytes:,}"),
        (
            f"largest difference between torch and ONNX Runtime{_of(exported)}",
            f"{exported.largest_difference:.1e} of the output's scale",
        ),
    )
