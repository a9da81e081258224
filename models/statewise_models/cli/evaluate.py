"""Hold versions against new data, beside the baselines and each other; its exit status can be a gate.

`statewise evaluate` needs no server and no torch: each version runs in ONNX Runtime as it will be served.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from statewise.repository import Repository
from statewise_models.cli import options as o
from statewise_models.cli.problems import told
from statewise_models.cli.tables import table_of
from statewise_models.config import InvalidConfig

if TYPE_CHECKING:
    from statewise_models.evaluation.columns import Columns
    from statewise_models.evaluation.gate import Gate
    from statewise_models.evaluation.judged import Judged
    from statewise_models.evaluation.served import Served

FAILS = 3
GATE = "Gate: the last version named passes only if …"
MEASURED = {"forecast": "rmse", "classify": "accuracy", "tokens": "bits_per_token"}

Versions = Annotated[
    list[str],
    typer.Argument(metavar="MODEL[@VERSION]", help="Versions; without @, the one that new sessions get.", show_default=False),
]
Data = Annotated[Path, typer.Option(help="CSV or Parquet with the model's columns; for tokens a text.", show_default=False)]
Label = Annotated[str | None, typer.Option(help="classify: the column with the true label.")]
Series = Annotated[str | None, typer.Option(help="The column that tells series, or sequences, apart.")]
Time = Annotated[
    str | None, typer.Option(help="The time column.", show_default="time, where the model counts datetimes; else rows count")
]
Column = Annotated[
    list[str] | None, typer.Option(help="FEATURE=COLUMN, where the file calls a feature otherwise. May be given again.")
]
WarmUp = Annotated[int, typer.Option(min=0, help="Timesteps of each series that are run and not scored.")]
AllSeries = Annotated[bool, typer.Option("--all-series", help="Show every series, not only the worst.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write all figures here.", show_default=False)]
MaxRmse = Annotated[float | None, typer.Option(min=0, help="forecast: its RMSE is at most this.", rich_help_panel=GATE)]
MinAccuracy = Annotated[str | None, typer.Option(help="classify: it is right at least so often: 90%.", rich_help_panel=GATE)]
MaxBits = Annotated[float | None, typer.Option(min=0, help="tokens: it takes at most so many bits a token.", rich_help_panel=GATE)]
MaxWorse = Annotated[
    str | None, typer.Option(help="it is at most so much worse than the first version named: 2%.", rich_help_panel=GATE)
]
BeatBaseline = Annotated[
    bool, typer.Option("--beat-baseline", help="it is better than every baseline shown.", rich_help_panel=GATE)
]


def evaluate(
    versions: Versions,
    data: Data,
    label: Label = None,
    series: Series = None,
    time: Time = None,
    column: Column = None,
    warm_up: WarmUp = 0,
    all_series: AllSeries = False,
    json_file: Json = None,
    max_rmse: MaxRmse = None,
    min_accuracy: MinAccuracy = None,
    max_bits: MaxBits = None,
    max_worse: MaxWorse = None,
    beat_baseline: BeatBaseline = False,
    gaps: o.Gaps = "refuse",
    duplicates: o.Duplicates = "refuse",
    unsorted: o.Unsorted = "refuse",
    repository: o.Repository = Path("var/repository"),
) -> None:
    """Hold versions against new data, beside the baselines and each other.

    Each version reads the file once, in the order of time, a session for each series, as it will be served; then its answers are
    scored. Exit status 0: it passes (or nothing was asked); 3: it fails the gate, and a line says why; 2: what was given cannot be
    used; 1: trouble.

    **Example**: may version 8 go live in place of 7?

    statewise evaluate demand@7 demand@8 --data week.csv --warm-up 48 --max-worse 2% --beat-baseline

    and if it passes: statewise promote demand 8
    """
    with told():
        from statewise_models.evaluation.columns import Columns
        from statewise_models.evaluation.gate import Gate

        limits = {"rmse": max_rmse, "accuracy": share(min_accuracy, "--min-accuracy"), "bits_per_token": max_bits}
        asked = {key: limit for key, limit in limits.items() if limit is not None}
        gate = Gate(asked, share(max_worse, "--max-worse"), beat_baseline)
        renamed = dict(pair(words) for words in column or [])
        columns = Columns(data, series, time, label, renamed, gaps, duplicates, unsorted)
        doors = _doors()
        served = _served(repository, versions)
        gate.check(MEASURED[str(served[0].spec.task)], [str(version) for version in served])
        judged = doors[str(served[0].spec.task)](served, columns, warm_up)
        broken = gate.broken(judged)
        if json_file:
            _write(json_file, served, judged, columns, warm_up, broken if gate.stands else None)
    _show(judged, str(data), all_series)
    _conclude(served[-1], gate, broken, repository)


def _served(repository: Path, words: list[str]) -> list[Served]:
    """Opens the versions; raises `InvalidConfig` where they are not of one task, or are named twice."""
    from statewise_models.evaluation.judged import same
    from statewise_models.evaluation.served import serve
    from statewise_models.versions import published

    chosen = [published(repository, each) for each in words]
    for version in chosen:
        if chosen.count(version) > 1:
            raise InvalidConfig(f"{version} is named more than once")
    served = [serve(each) for each in chosen]
    if same(served, "task", [version.spec.task for version in served]) not in MEASURED:
        raise InvalidConfig(f"{served[0]} was trained for no task that can be judged ({', '.join(MEASURED)})")
    return served


def _doors() -> dict[str, Callable[[Sequence[Served], Columns, int], Judged]]:
    """Returns what judges the versions of each task; what is not installed is told before a file is looked for."""
    from statewise_models.evaluation.classify import judge_labels
    from statewise_models.evaluation.forecast import judge_forecasts
    from statewise_models.evaluation.tokens import judge_text

    return {"forecast": judge_forecasts, "classify": judge_labels, "tokens": judge_text}


def _show(judged: Judged, data: str, all_series: bool) -> None:
    from statewise_models.evaluation.sheets import MOST_GROUPS, groups_sheet, overall_sheet

    console = Console()
    console.print(table_of(overall_sheet(judged, data)))
    if groups := groups_sheet(judged, None if all_series else MOST_GROUPS):
        console.print(table_of(groups))
    for note in judged.notes:
        console.print(f"note      {note}", soft_wrap=True, highlight=False, markup=False)


def _conclude(last: Served, gate: Gate, broken: list[str], repository: Path) -> None:
    """Says whether the last version passes, and what to do then; raises `typer.Exit` where it fails."""
    if broken:
        typer.echo(f"fails: {last}: {'; '.join(broken)}", err=True)
        raise typer.Exit(FAILS)
    if gate.stands:
        typer.echo(f"passes: {last}")
    name, version = last.published.model, last.published.version
    if Repository(repository).default(name) != version:
        typer.echo(f"what next statewise promote {name} {version} --repository {shlex.quote(str(repository))}")


def _write(file: Path, served: list[Served], judged: Judged, columns: Columns, warm_up: int, broken: list[str] | None) -> None:
    """Writes all figures for machines, whole or not at all; raises `OSError`."""
    from statewise_models.files import replace_bytes

    named = [{"model": v.published.model, "version": v.published.version, "sha256": v.digest} for v in served]
    figures: dict[str, Any] = {"data": str(columns.data), "warm_up": warm_up, "task": served[0].spec.task, "versions": named}
    figures |= judged.as_dict()
    figures |= {"gate": None if broken is None else {"passes": not broken, "broken": broken}}
    replace_bytes(file, (json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def share(words: str | None, option: str) -> float | None:
    """Reads a percentage; raises `InvalidConfig` for what is none."""
    if words is None:
        return None
    number, mark, rest = words.partition("%")
    try:
        figure = float(number) / 100
    except ValueError:
        figure = -1.0
    if not mark or rest.strip() or not 0 <= figure < float("inf"):
        raise InvalidConfig(f"{option} takes a percentage: 2%, not {words!r}")
    return figure


def pair(words: str) -> tuple[str, str]:
    """Reads FEATURE=COLUMN; raises `InvalidConfig`."""
    feature, mark, column = words.partition("=")
    if not (feature and mark and column):
        raise InvalidConfig(f"--column takes FEATURE=COLUMN, not {words!r}")
    return feature, column


app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
app.command(no_args_is_help=True)(evaluate)
