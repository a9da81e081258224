"""A run told as tables, as JSON and as a plot."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from dataclasses import asdict
from pathlib import Path

import grpc
import matplotlib as mpl
import onnxruntime
from rich.console import Console
from rich.table import Table

from bench.goals import Goal, goals
from bench.results import Results, Row

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

COLOURS = {"statewise": "#1b6ca8", "echo": "#9a9a9a", "triton": "#c1662d"}
NAMES = {"statewise": "Statewise", "echo": "bare echo", "triton": "Triton, Python backend"}


def machine() -> dict[str, str]:
    """Returns where and of what this run is."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return {
        "commit": commit,
        "cpu": names[0] if names else platform.processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "grpcio": grpc.__version__,
    }


def write(results: Results, folder: Path) -> None:
    """Prints the tables, and writes `results.json` and `throughput.png` to a folder."""
    console = Console(width=140)
    reached = goals(results)
    console.print(_rows(results), _ceilings(results), _goals(reached))
    for name, figure in results.figures.items():
        console.print(f"{name}: {figure:,.2f}", highlight=False)
    told = {
        "machine": results.machine,
        "goals": [asdict(goal) for goal in reached],
        "rows": [asdict(row) for rounds in results.rows.values() for row in rounds],
        "ceilings": [
            {"graph": graph, "model": model, "batch": batch, **asdict(each)}
            for (graph, model, batch), rounds in results.ceilings.items()
            for each in rounds
        ],
        "figures": results.figures,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(told, indent=1))
    _plot(results, folder / "throughput.png")
    console.print(f"written: {folder}/results.json, {folder}/throughput.png")


def median(rounds: list[Row]) -> Row:
    """Returns the medians of a workload's rounds."""
    first = rounds[0]
    values = {
        name: statistics.median(getattr(row, name) for row in rounds)
        for name in ("steps_per_second", "cpu_us_per_step", "cpu_us_per_message", "p50_us", "p99_us", "batch_fill")
    }
    return Row(first.server, first.model, first.workload, **values)


def _rows(results: Results) -> Table:
    table = Table(title=f"Medians of the rounds; {results.machine['cpu']}, {results.machine['cores']} cores shared with the load")
    for name in ("model", "workload", "server"):
        table.add_column(name)
    for name in ("steps/s", "CPU µs a step", "CPU µs a message", "p50 ms", "p99 ms", "steps a batch"):
        table.add_column(name, justify="right")
    for rounds in results.rows.values():
        row = median(rounds)
        table.add_row(
            row.model,
            row.workload,
            NAMES[row.server],
            f"{row.steps_per_second:,.0f}",
            f"{row.cpu_us_per_step:.1f}",
            f"{row.cpu_us_per_message:,.0f}",
            f"{row.p50_us / 1e3:.2f}",
            f"{row.p99_us / 1e3:.2f}",
            f"{row.batch_fill:.1f}" if row.batch_fill else "",
        )
    return table


def _ceilings(results: Results) -> Table:
    table = Table(title="ONNX Runtime alone, in a loop")
    for name in ("graph", "model"):
        table.add_column(name)
    for name in ("batch", "CPU µs a step", "run µs"):
        table.add_column(name, justify="right")
    for (graph, model, batch), rounds in sorted(results.ceilings.items(), key=lambda item: (item[0][1], item[0][2], item[0][0])):
        cpu = statistics.median(each.cpu_us_per_step for each in rounds)
        run = statistics.median(each.run_us for each in rounds)
        table.add_row(graph, model, str(batch), f"{cpu:.2f}", f"{run:,.0f}")
    return table


def _goals(reached: list[Goal]) -> Table:
    table = Table(title="Goals")
    table.add_column("what")
    for name in ("goal", "measured", ""):
        table.add_column(name, justify="right")
    for goal in reached:
        ratio = "not measured" if goal.ratio is None else f"{goal.ratio:.2f}"
        table.add_row(goal.what, goal.wanted, ratio, {True: "met", False: "missed", None: ""}[goal.met])
    return table


def _plot(results: Results, file: Path) -> None:
    """Throughput against p99 latency of LSTM 64→256, both on logarithmic scales."""
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    labels = []
    for rounds in results.rows.values():
        row = median(rounds)
        if row.model != "lstm-256":
            continue
        axes.scatter(row.steps_per_second, row.p99_us / 1e3, s=45, color=COLOURS[row.server], zorder=3)
        beside = {"xytext": (-6, 4), "ha": "right"} if row.server == "triton" else {"xytext": (6, 4)}
        place = row.steps_per_second, row.p99_us / 1e3
        labels.append(axes.annotate(row.workload, place, textcoords="offset points", fontsize=8, **beside))
    for server in {server for server, model, _ in results.rows if model == "lstm-256"}:
        axes.scatter([], [], s=45, color=COLOURS[server], label=NAMES[server])
    axes.set(xscale="log", yscale="log", xlabel="timesteps a second", ylabel="p99 of a message, ms")
    axes.set_title(f"LSTM 64→256, {results.machine['cores']} cores shared with the load generators")
    axes.grid(which="both", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.2)
    axes.legend(frameon=False)
    figure.canvas.draw()
    _part(labels)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def _part(labels: list[Annotation]) -> None:
    """Moves labels up until none covers another."""
    placed: list[Bbox] = []
    for label in sorted(labels, key=lambda label: label.xy[1]):
        while any(label.get_window_extent().overlaps(other) for other in placed):
            across, up = label.xyann
            label.xyann = (across, up + 1)
        placed.append(label.get_window_extent())
