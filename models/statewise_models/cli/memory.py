"""Show how far back models remember: gradients through time on your data, and the recall of a bit after a delay.

`statewise memory` reads versions and data, measures, and tells it as tables, as JSON and as one picture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from statewise_models.cli import options as o
from statewise_models.cli.problems import told
from statewise_models.cli.tables import table_of
from statewise_models.config import InvalidConfig
from statewise_models.sheet import Sheet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from statewise_models.memory.recall import Recalled

    Shares = NDArray[np.float64]

TOLD = (1, 2, 5, 10, 20, 50, 100, 200)
QUICK_DELAYS, QUICK_SEEDS, SEEDS = (2, 5, 10, 20, 50), 1, 3

Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="MODEL[@VERSION]", help="Versions; without @, the one that new sessions get.", show_default=False),
]
Data = Annotated[Path | None, typer.Option(help="A file as the models were trained on: CSV, Parquet or text.")]
Series = Annotated[str | None, typer.Option(help="The column that tells series, or sequences, apart.")]
Label = Annotated[str | None, typer.Option(help="The column with the label, for models that classify.")]
Back = Annotated[int, typer.Option(help="Timesteps to look back.", min=1, max=5000)]
Windows = Annotated[int, typer.Option(help="Windows of the data, spread evenly over it.", min=1, max=1000)]
Recall = Annotated[bool, typer.Option("--recall/--no-recall", help="Train the cells to recall a bit after a delay.")]
Quick = Annotated[bool, typer.Option("--quick", help="Delays up to 50 and one seed: half a minute instead of some minutes.")]
Output = Annotated[Path, typer.Option(help="memory.png and memory.json go here.")]


def memory(
    models: Models = None,
    data: Data = None,
    series: Series = None,
    time: o.Time = None,
    label: Label = None,
    gaps: o.Gaps = "refuse",
    duplicates: o.Duplicates = "refuse",
    unsorted: o.Unsorted = "refuse",
    back: Back = 100,
    windows: Windows = 64,
    recall: Recall = True,
    quick: Quick = False,
    repository: o.Repository = Path("var/repository"),
    output: Output = Path("var/memory"),
) -> None:
    """How far back do models remember?

    For each MODEL, the gradient of the loss at a timestep by the hidden state k timesteps before, over windows of your data: what
    is left of it is what training could learn from k timesteps ago. Without a model that part is left out. Then the three cells are
    trained, anew for each delay, to recall a bit: that shows why gates exist.

    **Examples**

    statewise memory --quick

    statewise memory demand-elman demand-lstm@2 --data examples/data/demand.csv --time time
    """
    choices = locals()
    with told():
        from statewise_models.files import check_writable

        if not models and not recall:
            raise InvalidConfig("--no-recall leaves nothing to do without a model: name one, or leave --no-recall out")
        check_writable(output)
        console = Console()
        found = _models(models or [], repository, data, choices)
        if found:
            console.print(table_of(_gradient_sheet(found, back)))
        first, recalled = _recall(quick) if recall else ({}, [])
        if recalled:
            console.print(table_of(_recall_sheet(recalled)))
        _write(output, found, first, recalled, data)
        console.print(f"written   {output}/memory.png, {output}/memory.json", highlight=False, soft_wrap=True)


def _models(
    named: Sequence[str], repository: Path, data: Path | None, choices: Mapping[str, Any]
) -> dict[str, tuple[str, dict[str, Shares]]]:
    """Returns, of each model named, its cell and what is left of gradients by kind of state."""
    if not named:
        return {}
    from statewise_models.data.policy import Policy
    from statewise_models.memory.gradients import shares
    from statewise_models.memory.windows import Columns, norms_on
    from statewise_models.published import network_of, published

    if data is None:
        raise InvalidConfig("--data is needed to look into a model: a file with the columns that it was trained on")
    versions = [published(repository, words) for words in named]
    networks = {str(version): network_of(version.path) for version in versions}
    found: dict[str, tuple[str, dict[str, Shares]]] = {}
    for name, network in track(networks.items(), "gradients", console=_progress(), transient=True, disable=_silent()):
        masked = {feature.name: feature.missing for feature in network.config.features}
        policy = Policy(choices["gaps"], choices["duplicates"], choices["unsorted"], masked)
        columns = Columns(choices["series"], choices["time"], choices["label"], policy)
        norms = norms_on(network, data, columns, choices["back"], choices["windows"])
        found[name] = (network.config.cell, {kind: shares(norm) for kind, norm in norms.items()})
    return found


def _recall(quick: bool) -> tuple[dict[Any, Shares], list[Recalled]]:
    """Returns what is left of gradients before learning, by cell and gates, and what came of the trials."""
    from statewise_models.memory import recall as task

    planned = task.trials(QUICK_DELAYS if quick else task.DELAYS, QUICK_SEEDS if quick else SEEDS)
    workers = min(4, len(os.sched_getaffinity(0)))
    running = task.run(planned, workers)
    first = task.first_gradients(QUICK_DELAYS[-1] if quick else task.LONGEST)
    recalled = list(track(running, "recall of a bit", total=len(planned), console=_progress(), transient=True, disable=_silent()))
    return first, recalled


def _progress() -> Console:
    return Console(stderr=True)


def _silent() -> bool:
    return not _progress().is_terminal


def _gradient_sheet(found: Mapping[str, tuple[str, Mapping[str, Shares]]], back: int) -> Sheet:
    from statewise_models.memory.gradients import GONE, gone

    distances = [k for k in TOLD if k <= back]
    rows = []
    for name, (_, kinds) in found.items():
        for kind, shares in kinds.items():
            left = [_share(shares[k - 1]) if k <= len(shares) else "" for k in distances]
            rows.append((f"{name}, {kind.replace('_', ' ')}", *left, str(gone(shares) or f"> {len(shares)}")))
    numbers = (*_named(distances), f"< {GONE:.0%} at")
    return Sheet("What is left of the gradient k timesteps back (median over windows)", ("model, state",), numbers, (tuple(rows),))


def _named(distances: Sequence[int]) -> tuple[str, ...]:
    """Returns headings: the first says what the others are."""
    return (f"k={distances[0]}", *map(str, distances[1:]))


def _share(share: float) -> str:
    return f"{share:.2f}" if share >= 0.01 else f"{share:.0e}".replace("e-0", "e-")


def _recall_sheet(recalled: Sequence[Recalled]) -> Sheet:
    delays = sorted({one.trial.delay for one in recalled})
    rows = []
    for cell, gates in _kinds(recalled):
        tried = [[o.accuracy for o in recalled if (o.trial.cell, o.trial.gates, o.trial.delay) == (cell, gates, k)] for k in delays]
        rows.append((cell, gates, *(f"{100 * sum(each) / len(each):.1f}" if each else "–" for each in tried)))
    title = "A bit recalled after k timesteps, % (mean over seeds; 50: guessing)"
    return Sheet(title, ("cell", "gates at first"), _named(delays), (tuple(rows),))


def _kinds(recalled: Iterable[Recalled]) -> list[tuple[str, str]]:
    order = {"none": 0, "open": 1, "half open": 2}
    return sorted({(o.trial.cell, o.trial.gates) for o in recalled}, key=lambda kind: (order[kind[1]], kind[0] == "gru"))


def _write(
    output: Path,
    found: Mapping[str, tuple[str, Mapping[str, Shares]]],
    first: Mapping[Any, Shares],
    recalled: Sequence[Recalled],
    data: Path | None,
) -> None:
    from statewise_models.files import replace_bytes
    from statewise_models.memory.picture import draw
    from statewise_models.plots import save

    output.mkdir(parents=True, exist_ok=True)
    figures = {
        "models": {
            name: {"cell": cell, **{kind: list(shares) for kind, shares in kinds.items()}} for name, (cell, kinds) in found.items()
        },
        "before_learning": [{"cell": cell, "gates": gates, "shares": list(shares)} for (cell, gates), shares in first.items()],
        "recall": [asdict(one) for one in recalled],
    }
    replace_bytes(output / "memory.json", json.dumps(figures, indent=1).encode())
    save(draw(found, first, recalled, data.name if data else ""), output / "memory.png")


app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
app.command()(memory)
