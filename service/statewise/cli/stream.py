"""`statewise stream`: a file through a running server, a session for each series, timestep by timestep."""

from __future__ import annotations

import csv
import datetime
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, TextIO

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from statewise.client import Client, Model, Session


def stream(
    model: Annotated[str, typer.Argument(help="The model, as `statewise models` lists it.")],
    data: Annotated[Path, typer.Option(help="A CSV with the model's columns; a text file for a token model.")],
    address: Annotated[str, typer.Option(help="HOST:PORT of the server.")] = "127.0.0.1:8001",
    version: Annotated[int, typer.Option(help="The version; 0 is what new sessions get.")] = 0,
    time: Annotated[str, typer.Option(help="The time column, for a model with a calendar.")] = "time",
    series: Annotated[str | None, typer.Option(help="A column that tells series apart: each gets a session.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the predictions as CSV. [default: standard output]")] = None,
) -> None:
    """Stream a file through a running server, timestep by timestep, and write what the model answers.

    The answer of a row is made from that row and all before it; a forecast's answer is about the row that follows.
    """
    with ExitStack() as stack:
        client = stack.enter_context(Client(address))
        source = stack.enter_context(_opened(data))
        session = stack.enter_context(client.open_session(model, version=version))
        sink = stack.enter_context(out.open("w", newline="")) if out else sys.stdout
        if session.model.vocabulary:
            _stream_text(session, source.read(), sink)
        else:
            _stream_table(client, session, source, sink, time if session.model.calendar else None, series)


def _opened(data: Path) -> TextIO:
    try:
        return data.open(newline="", encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"cannot read {data}: {error.strerror}", param_hint="--data") from error


def _stream_table(client: Client, first: Session, source: TextIO, sink: TextIO, time: str | None, series: str | None) -> None:
    """Streams the rows of a CSV; the first series takes the session that is open, others open their own."""
    model, rows = first.model, csv.DictReader(source)
    wanted = [*_columns(model), *filter(None, (time, series))]
    absent = [column for column in wanted if column not in (rows.fieldnames or ())]
    if absent:
        raise _bad(f"no column {', '.join(absent)}; the file has: {', '.join(rows.fieldnames or ()) or 'nothing'}")
    writer = csv.writer(sink)
    writer.writerow(["row", *([series] if series else []), *_headings(model)])
    sessions: dict[str, Session] = {}
    with ExitStack() as stack:
        for number, row in enumerate(track(rows, "streaming", console=Console(stderr=True), transient=True), start=2):
            name = row[series] if series else ""
            if name not in sessions:
                sessions[name] = stack.enter_context(client.open_session(model.name, version=model.version)) if sessions else first
            answer = sessions[name].step(**_inputs(model, row, number, time))
            writer.writerow([number, *([name] if series else []), *_values(model, answer)])


def _columns(model: Model) -> tuple[str, ...]:
    return tuple(feature for tensor in model.inputs for feature in tensor.features)


def _inputs(model: Model, row: dict[str, str], number: int, time: str | None) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for tensor in model.inputs:
        if tensor.features:
            inputs[tensor.name] = [_number(row[feature], feature, number) for feature in tensor.features]
        elif model.calendar and tensor.name == model.calendar.input and time:
            inputs[tensor.name] = _time(row[time], time, number, model.calendar.step_seconds)
    return inputs


def _number(text: str, column: str, number: int) -> float:
    if not text or text.lower() in ("nan", "na"):
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise _bad(f"row {number}, column {column}: {text!r} is not a number") from None


def _time(text: str, column: str, number: int, step_seconds: float) -> int:
    """Returns the index of a time: that of an ISO date and time (UTC where it names no zone), or the integer itself."""
    try:
        if not step_seconds:
            return int(text)
        stamp = datetime.datetime.fromisoformat(text)
        stamp = stamp if stamp.tzinfo else stamp.replace(tzinfo=datetime.UTC)
        return int(stamp.timestamp() // step_seconds)
    except ValueError:
        wanted = "an ISO date and time" if step_seconds else "an integer"
        raise _bad(f"row {number}, column {column}: {text!r} is not {wanted}") from None


def _headings(model: Model) -> list[str]:
    if model.task == "classify":
        return ["label", "probability"]
    return [f"{tensor.name}_{name}" for tensor in model.outputs for name in tensor.features or map(str, range(tensor.shape[-1]))]


def _values(model: Model, answer: Any) -> list[Any]:
    if model.task == "classify":
        best = int(np.argmax(answer))
        return [model.outputs[0].features[best], round(float(answer[best]), 6)]
    arrays = answer.values() if isinstance(answer, dict) else [answer]
    return [float(value) for array in arrays for value in np.ravel(array)]


def _stream_text(session: Session, text: str, sink: TextIO) -> None:
    """Writes for each token what the model expected next and how surprised it was by what came: bits, by its own logits."""
    vocabulary = session.model.vocabulary
    assert vocabulary
    try:
        tokens = vocabulary.encode(text)
    except ValueError as error:
        raise _bad(str(error)) from None
    writer, bits = csv.writer(sink), []
    writer.writerow(["token", "expected_next", "next", "bits"])
    answers: Iterator[Any] = session.steps(track(tokens[:-1], "streaming", console=Console(stderr=True), transient=True))
    for here, following, logits in zip(tokens, tokens[1:], answers, strict=False):
        scores = logits.astype(np.float64) - logits.max()
        bits.append(float((np.log(np.exp(scores).sum()) - scores[following]) / np.log(2)))
        shown = [vocabulary.decode([token]) for token in (here, int(np.argmax(logits)), following)]
        writer.writerow([*shown, round(bits[-1], 3)])
    if bits:
        typer.echo(f"{np.mean(bits):.3f} bits a token over {len(bits)} tokens", err=True)


def _bad(message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint="--data")
