"""`statewise stream`: a file through a running server, a session for each series, timestep by timestep."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TextIO

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from statewise.cli import connection, files
from statewise.client import Client, Model, Session
from statewise.errors import InvalidInput
from statewise.reading.given import CONSTANT_HELP, Given, told, warm_up
from statewise.reading.problems import BadInput
from statewise.reading.rows import Columns, Row, names_of, rows_of

Write = Callable[[list[Any]], Any]
WARM_UP_HELP = "For series that the model does not know: their mean and scale are those of so many first rows."


def stream(
    model: Annotated[str, typer.Argument(help="The model, as `statewise models` lists it.")],
    data: files.Data,
    address: connection.Address = "127.0.0.1:8001",
    tls: connection.Tls = False,
    tls_ca: connection.TlsCa = None,
    bearer_key_file: connection.BearerKeyFile = None,
    version: Annotated[int, typer.Option(min=0, help="The version; 0 is what new sessions get.")] = 0,
    time: files.Time = "time",
    column: files.Column = None,
    series: Annotated[str | None, typer.Option(help="A column that tells series apart: each gets a session.")] = None,
    constant: Annotated[list[str] | None, typer.Option(help=CONSTANT_HELP)] = None,
    warm_up: Annotated[int, typer.Option("--warm-up", min=0, help=WARM_UP_HELP)] = 0,
    out: Annotated[Path | None, typer.Option(help="Where to write the predictions as CSV.", show_default="standard output")] = None,
) -> None:
    """Stream a file through a running server, timestep by timestep, and write what the model answers.

    A model whose inputs have no feature names, such as an imported one, reads the columns x_0, x_1, … of its input x.

    The answer of a row is made from that row and all before it; a forecast's answer is about the row that follows. Where the model
    is told what is known of the next row (promotions, holidays), it is read from there: the last row of each series then only tells
    these columns, and is not streamed.

    **Examples**

    statewise stream demand --data examples/data/demand.csv --out forecasts.csv

    statewise stream store --data stores.csv --series store --warm-up 28

    statewise stream demand --data week.csv --address models.example.com:443 --tls --bearer-key-file key
    """
    renamed = files.renamed(column or [])
    with ExitStack() as stack:
        source = stack.enter_context(files.opened(data))
        client = stack.enter_context(connection.client(address, tls, tls_ca, bearer_key_file))
        served = client.model(model, version)
        sink = stack.enter_context(_written(out))
        if served.vocabulary:
            session = stack.enter_context(client.open_session(model, version=served.version))
            _stream_text(session, files.text_of(source, data), sink)
            return
        columns = Columns(served, renamed, time if served.calendar else None, series, data.stem)
        given = _given(served, constant or [], warm_up, source, data, columns)
        _stream_table(client, served, rows_of(source, data, columns), columns, given, sink)


def _given(served: Model, constants: list[str], count: int, source: TextIO, data: Path, columns: Columns) -> Given:
    given = Given(served, told(served, constants))
    if not count:
        return given
    warmed = warm_up(served, rows_of(source, data, columns), count)
    source.seek(0)
    return replace(given, warmed=warmed)


@contextmanager
def _written(out: Path | None) -> Iterator[Write]:
    """Yields what writes a row of CSV; the file bears its name only once all of it is there."""
    if out is None:
        yield csv.writer(sys.stdout, lineterminator="\n").writerow
        return
    with files.written(out) as part, part.open("w", newline="", encoding="utf-8") as sink:
        yield csv.writer(sink, lineterminator="\n").writerow


def _stream_table(client: Client, model: Model, rows: Iterator[Row], columns: Columns, given: Given, write: Write) -> None:
    """Streams the rows of a CSV, each series through a session of its own."""
    sessions: dict[str, Session] = {}
    write(["row", *([columns.series] if columns.series else []), *_headings(model)])
    with ExitStack() as stack:
        for row in track(rows, "streaming", console=Console(stderr=True), transient=True):
            try:
                if row.series not in sessions:
                    opened = client.open_session(model.name, version=model.version, constants=given.to(row.series))
                    sessions[row.series] = stack.enter_context(opened)
                answer = sessions[row.series].step(**row.inputs)
            except InvalidInput as error:
                raise BadInput(f"row {row.number}: {error}") from error
            write([row.number, *([row.series] if columns.series else []), *_values(model, answer)])
    if columns.ahead:
        told = f"the last row of each series was not streamed: it tells what is known of it ({', '.join(columns.ahead)})"
        typer.echo(told, err=True)


def _headings(model: Model) -> list[str]:
    if model.task == "classify":
        return ["label", "probability"]
    headings: list[str] = []
    for tensor in model.outputs:
        headings += [f"{tensor.name}_{name}" for name in tensor.features] or names_of(tensor)
    return headings


def _values(model: Model, answer: Any) -> list[Any]:
    if model.task == "classify":
        best = int(np.argmax(answer))
        return [model.outputs[0].features[best], round(float(answer[best]), 6)]
    arrays = [answer[tensor.name] for tensor in model.outputs] if isinstance(answer, dict) else [answer]
    return [float(value) for array in arrays for value in np.ravel(array)]


def _stream_text(session: Session, text: str, write: Write) -> None:
    """Writes for each token what the model expected next and how surprised it was by what came: bits, by its own logits."""
    vocabulary = session.model.vocabulary
    assert vocabulary
    tokens = files.tokens_of(text, vocabulary)
    if len(tokens) < 2:
        raise BadInput(f"the text has {len(tokens)} tokens: guessing the next takes at least 2")
    write(["token", "expected_next", "next", "bits"])
    bits = []
    answers: Iterator[Any] = session.steps(track(tokens[:-1], "streaming", console=Console(stderr=True), transient=True))
    for here, following, logits in zip(tokens[:-1], tokens[1:], answers, strict=True):
        scores = logits.astype(np.float64) - logits.max()
        bits.append(float((np.log(np.exp(scores).sum()) - scores[following]) / np.log(2)))
        write([*(vocabulary.decode([token]) for token in (here, int(np.argmax(logits)), following)), round(bits[-1], 3)])
    typer.echo(f"{np.mean(bits):.3f} bits a token over {len(bits)} tokens", err=True)
