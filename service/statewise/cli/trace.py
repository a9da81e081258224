"""`statewise trace`: a file through the explicit-gate graph of a model version, into arrays and a heat map.

file → inputs of the timesteps → trace.onnx, which export held against the served graph → trace.npz and trace.png. No server and
no torch are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from statewise.cli import files
from statewise.cli.repository import Root
from statewise.cli.traced import Array, Trace
from statewise.reading import gates
from statewise.reading.given import CONSTANT_HELP, Given, told
from statewise.reading.problems import BadInput
from statewise.reading.rows import Columns, Row, rows_of, stacked
from statewise.repository import TRACE_FILE, Published, Repository, RepositoryError
from statewise.spec import ModelSpec

ARRAYS_FILE, PICTURE_FILE = "trace.npz", "trace.png"
ROW = "row"
SERIES_NAMED = 8  # of those in a file, in an error


def trace(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL[@VERSION]", help="A version; without @, the one that new sessions get.", show_default=False),
    ],
    data: files.Data,
    timesteps: Annotated[int, typer.Option(min=1, help="At most so many timesteps of the file.")] = 500,
    skip: Annotated[int, typer.Option(min=0, help="Timesteps that the model reads before those that are shown.")] = 0,
    time: files.Time = "time",
    column: files.Column = None,
    series: Annotated[str | None, typer.Option(help="A column that tells series apart; one of them is traced.")] = None,
    only: Annotated[str | None, typer.Option(help="With --series: which one.", show_default="the first in the file")] = None,
    constant: Annotated[list[str] | None, typer.Option(help=CONSTANT_HELP)] = None,
    repository: Root = Path("var/repository"),
    output: Annotated[Path | None, typer.Option(help="The folder to write to.", show_default="var/trace/MODEL@VERSION")] = None,
) -> None:
    """Show what the cells of a model do while it reads a file: gates and states, timestep by timestep.

    Writes trace.npz, an array for each gate and state of each layer, and trace.png, a heat map of them.
    No server is needed: the graph that shows the gates lies beside the model, and gave the same outputs when it was exported.

    **Examples**

    statewise trace demand --data examples/data/demand.csv --skip 672 --timesteps 336

    statewise trace gesture@2 --data gestures.csv --series id --only 7
    """
    import statewise.cli.heatmap  # noqa: F401 (if matplotlib is not installed, that is told before a file is looked for)

    if only is not None and series is None:
        raise BadInput("--only goes with --series: it says which of the series")
    place, published = _found(repository, model)
    graph = gates.opened(place)
    spec = graph.spec
    chosen, name_of_series = _read(data, spec, files.renamed(column or []), time, series, only, skip + timesteps)
    if skip >= len(next(iter(chosen.values()))):
        raise BadInput(f"--skip {skip}: there are {len(next(iter(chosen.values()))):,} timesteps to read")
    arrays = {**chosen, **graph.read(chosen, Given(spec, told(spec, constant or [])).to(name_of_series))}
    folder = output or Path("var/trace") / str(published)
    source = data.name if only is None else f"{data.name}, {series} {only}"
    _write(
        Trace(
            f"{published.model}, version {published.version}",
            source,
            spec,
            skip,
            {key: array[skip:] for key, array in arrays.items()},
        ),
        folder,
    )
    shown = len(next(iter(arrays.values()))) - skip
    typer.echo(f"timesteps {skip + 1:,} to {skip + shown:,} of {source}: {folder / ARRAYS_FILE}, {folder / PICTURE_FILE}")


def _found(root: Path, words: str) -> tuple[Path, Published]:
    """Returns the explicit-gate graph that MODEL or MODEL@VERSION names, and the version; raises `BadInput`."""
    try:
        published = Repository(root).named(words)
    except RepositoryError as error:
        raise BadInput(str(error)) from error
    file = published.path.with_name(TRACE_FILE)
    if file.is_file():
        return file, published
    if gates.opened(published.path).spec.about.get("int8"):
        raise BadInput(f"{published} is int8, and has no {TRACE_FILE}: its kernel shows no gates. Trace a float32 version")
    raise BadInput(f"{published} has no {TRACE_FILE}: it was exported before there were traces. Train it again")


def _read(
    data: Path, spec: ModelSpec, renamed: dict[str, str], time: str, series: str | None, only: str | None, most: int
) -> tuple[dict[str, Array], str]:
    """Returns the inputs of the first `most` timesteps, `[timesteps, …]` each, a table's lines as `row`; and the series' name."""
    with files.opened(data) as source:
        if spec.vocabulary:
            if series or renamed:
                raise BadInput(f"{'--series' if series else '--column'}: the model reads text, which has no columns")
            tokens = files.tokens_of(files.text_of(source, data), spec.vocabulary)
            if not tokens:
                raise BadInput(f"{data} is empty")
            return {spec.inputs[0].name: np.array(tokens[:most], spec.inputs[0].dtype)}, data.stem
        columns = Columns(spec, renamed, time if spec.calendar else None, series, data.stem)
        rows = list(islice(_of_one_series(rows_of(source, data, columns), columns, only), most))
    return {**stacked(spec, rows), ROW: np.array([row.number for row in rows])}, rows[0].series


def _of_one_series(rows: Iterator[Row], columns: Columns, only: str | None) -> Iterator[Row]:
    """Yields the rows of the series `only`, or of the first one; raises `BadInput` if there is no such series."""
    others: dict[str, None] = {}
    wanted, found = only, False
    for row in rows:
        wanted = row.series if wanted is None else wanted
        if row.series == wanted:
            found = True
            yield row
        elif not found:
            others[row.series] = None
    if not found:
        named = ", ".join(islice(others, SERIES_NAMED)) + (" …" if len(others) > SERIES_NAMED else "")
        raise BadInput(f"--only {only}: no row has it in column {columns.series}, which has: {named}")


def _write(traced: Trace, folder: Path) -> None:
    """Writes both files, each whole or not at all."""
    from statewise.cli.heatmap import draw

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--output: cannot make {folder}: {error.strerror}") from error
    with files.written(folder / ARRAYS_FILE) as part, part.open("wb") as sink:
        np.savez_compressed(sink, **traced.arrays)  # type: ignore[arg-type]
    with files.written(folder / PICTURE_FILE) as part:
        draw(traced, part)
