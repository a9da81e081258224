"""The whole road on real data: train three cells, export them, serve them, stream the last quarter, and compare.

Half-hourly electricity demand of England and Wales (examples/data) → train an Elman, an LSTM and a GRU on the first three
quarters → export each to the repository → start `statewise serve` → one session a day of the last quarter, all at once, each
warmed up on the two weeks before and then streamed timestep by timestep → a table and plots. Run it with `make demo`.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as RichTable

from statewise.client import AsyncClient
from statewise_models.data.policy import Policy
from statewise_models.data.table import Series, Table, read_table
from statewise_models.export import export
from statewise_models.training import Trained, TrainingSettings, train_forecast

mpl.use("Agg")
from matplotlib import pyplot as plt

DATA = Path("examples/data/demand.csv")
HOME = Path("var/demo")
CELLS = ("elman", "lstm", "gru")
DAY, WEEK = 48, 336
WARM_UP = 2 * WEEK
READY_SECONDS = 60

NEXT = f"""\
  statewise serve --repository {HOME}/repository          serve these models; then, in another terminal,
  statewise stream demand-gru --data {DATA}   stream a file through the server
  statewise train forecast --help                         train on your own CSV
"""
Floats = NDArray[np.float32]
console = Console()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one cell did: `forecast` and `offline` are MW, `[days, 48]`, one step ahead."""

    cell: str
    trained: Trained
    forecast: Floats
    offline: Floats
    steps_per_second: float


def main() -> None:
    """Runs the demo from the repository's root."""
    torch.manual_seed(0)
    shutil.rmtree(HOME, ignore_errors=True)
    table = read_table(DATA, targets=["demand"], inputs=["demand"], series=None, time="time", policy=Policy())
    console.print(f"[bold]Data[/]    {DATA}: {len(table.series[0].x):,} half-hours of electricity demand, England and Wales, 2000")
    trained = {cell: _train(cell, table) for cell in CELLS}
    with _server() as address:
        console.print(f"[bold]Serve[/]   statewise serve, ready on {address}")
        outcomes = [asyncio.run(_stream(address, trained[cell], cell, table.series[0])) for cell in CELLS]
    _report(table.series[0], outcomes)


def _train(cell: str, table: Table) -> Trained:
    settings = TrainingSettings(cell=cell, calendar=(DAY, WEEK), difference=True, test=0.25, seed=1)
    trained = train_forecast(table, settings, output=HOME / "training" / cell)
    exported = export(trained.network, repository=HOME / "repository", model=f"demand-{cell}")
    apart = f"ONNX Runtime within {exported.largest_difference:.1e} of torch"
    console.print(f"[bold]Export[/]  demand-{cell} version {exported.version}, {apart}")
    return trained


@contextmanager
def _server() -> Iterator[str]:
    """Runs `statewise serve` on free ports and yields its address."""
    command = [sys.executable, "-m", "statewise.cli", "serve", "--repository", str(HOME / "repository")]
    command += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    log = (HOME / "server.log").open("w+")
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield _address(server)
    finally:
        server.terminate()
        server.wait()
        log.close()


def _address(server: subprocess.Popen[bytes]) -> str:
    """Waits for the server's ready line and returns the address in it."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and server.poll() is None:
        text = (HOME / "server.log").read_text()
        if ready := re.search(r"ready.*?(127\.0\.0\.1:[1-9]\d*)", text):
            return ready[1]
        time.sleep(0.1)
    sys.exit(f"the server did not become ready:\n{(HOME / 'server.log').read_text()}")


def _days(series: Series) -> list[int]:
    """Returns where the last quarter's days begin; a forecast of index i is made at i − 1."""
    return list(range(len(series.x) * 3 // 4, len(series.x), DAY))


async def _stream(address: str, trained: Trained, cell: str, series: Series) -> Outcome:
    """Streams all days at once, one session each, and runs the same days through torch."""
    forecast = np.zeros((len(_days(series)), DAY), np.float32)
    async with AsyncClient(address) as client:
        sessions = [await client.open_session(f"demand-{cell}") for _ in _days(series)]

        async def warm_up(day: int, begin: int) -> None:
            past = slice(begin - 1 - WARM_UP, begin - 1)
            await sessions[day].step(series.x[past], time=series.time[past])

        async def stream(day: int, begin: int) -> None:
            for step in range(DAY):
                now = begin - 1 + step
                forecast[day, step] = (await sessions[day].step(series.x[now], time=series.time[now]))[0]

        await asyncio.gather(*(warm_up(*day) for day in enumerate(_days(series))))
        started = time.perf_counter()
        await asyncio.gather(*(stream(*day) for day in enumerate(_days(series))))
        seconds = time.perf_counter() - started
        for session in sessions:
            await session.close()
    offline = np.stack([_offline(trained, series, begin) for begin in _days(series)])
    console.print(f"[bold]Stream[/]  demand-{cell}: {len(sessions)} sessions at once, {forecast.size:,} steps")
    return Outcome(cell, trained, forecast, offline, forecast.size / seconds)


def _offline(trained: Trained, series: Series, begin: int) -> Floats:
    """Returns one day's forecasts by torch, the whole sequence in one call."""
    whole = slice(begin - 1 - WARM_UP, begin - 1 + DAY)
    network = trained.network.eval()
    inputs = {"x": torch.from_numpy(series.x[whole])[:, None], "time": torch.from_numpy(series.time[whole])[:, None]}
    with torch.no_grad():
        outputs, _ = network.predict(inputs, network.initial(1))
    return np.asarray(outputs[-DAY:, 0, 0].numpy())


def _report(series: Series, outcomes: list[Outcome]) -> None:
    demand = series.x[:, 0].astype(np.float64)
    indices = np.array([np.arange(begin, begin + DAY) for begin in _days(series)])
    truth = demand[indices]
    baselines = {"persistence": demand[indices - 1], "weekly naive": demand[indices - WEEK]}
    table = RichTable(title=f"One half-hour ahead, {truth.size:,} half-hours of the last quarter, streamed")
    for column in (
        "model",
        "para-\nmeters",
        "training\nseconds",
        "RMSE\nMW",
        "MAPE\n%",
        "streamed −\noffline, MW",
        "steps\n/second",
    ):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for outcome in outcomes:
        apart = np.abs(outcome.forecast - outcome.offline).max()
        cells = (
            f"{outcome.trained.parameters:,}",
            f"{outcome.trained.seconds:.1f}",
            *_errors(outcome.forecast, truth),
            f"{apart:.4f}",
        )
        table.add_row(outcome.cell, *cells, f"{outcome.steps_per_second:,.0f}")
    table.add_section()
    for name, naive in baselines.items():
        table.add_row(name, "", "", *_errors(naive, truth), "", "")
    console.print(table)
    _plot(series, indices, truth, outcomes, baselines)
    console.print(f"Plots    {HOME}/demo.png, and for each cell {HOME}/training/CELL/")
    console.print("\n[bold]Try next[/] (after: source .venv/bin/activate)")
    console.print(NEXT, highlight=False, soft_wrap=True)


def _errors(forecast: NDArray[np.floating], truth: NDArray[np.float64]) -> tuple[str, str]:
    """Returns RMSE in MW and MAPE in percent, as text."""
    error = forecast - truth
    return f"{np.sqrt(np.mean(error**2)):.0f}", f"{100 * np.mean(np.abs(error / truth)):.2f}"


def _plot(
    series: Series,
    indices: NDArray[np.intp],
    truth: NDArray[np.float64],
    outcomes: list[Outcome],
    baselines: dict[str, NDArray[np.float64]],
) -> None:
    """Draws a streamed week above, the error of each model and baseline by hour of the day below."""
    figure, (week, hours) = plt.subplots(2, 1, figsize=(10, 7), height_ratios=[3, 2], layout="constrained")
    first = slice(0, WEEK)
    stamps = series.stamps[indices.ravel()[first]] if series.stamps is not None else np.arange(WEEK)
    week.plot(stamps, truth.ravel()[first] / 1000, color="0.65", linewidth=4, label="demand")
    for outcome in outcomes:
        week.plot(stamps, outcome.forecast.ravel()[first] / 1000, linewidth=1.2, label=outcome.cell)
    week.set(title="Electricity demand, England and Wales: forecast one half-hour ahead, streamed step by step", ylabel="GW")
    week.legend(ncols=4, frameon=False)
    for name, forecast in [(o.cell, o.forecast) for o in outcomes] + list(baselines.items()):
        rmse = np.sqrt(np.mean((forecast - truth) ** 2, axis=0))
        hours.plot(np.arange(DAY) / 2, rmse, label=name, linestyle="--" if name in baselines else "-")
    hours.set(xlabel="hour of the day", ylabel="RMSE, MW", xlim=(0, 23.5), ylim=(0, None), xticks=range(0, 24, 3))
    hours.legend(ncols=5, frameon=False)
    figure.savefig(HOME / "demo.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
