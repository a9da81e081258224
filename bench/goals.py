"""The goals: ratios between figures of one run, each the median of its rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from bench.results import Results, Row
from bench.workloads import COALESCED, CONNECTIONS, FRAME, ONE, SIXTY_FOUR


@dataclass(frozen=True, slots=True)
class Goal:
    """What a ratio should be, and what it is; `None` where it was not measured."""

    what: str
    wanted: str
    ratio: float | None
    met: bool | None


def goals(results: Results) -> list[Goal]:
    """Returns every goal with its ratio."""
    small, large, big_batch = "lstm-256", "lstm-1024", 256
    rows, ceilings = results.rows, results.ceilings

    def row(server: str, model: str, workload: str, of: Callable[[Row], float]) -> list[float]:
        return [of(each) for each in rows.get((server, model, workload), [])]

    def graph(name: str, model: str) -> list[float]:
        return [each.cpu_us_per_step for each in ceilings.get((name, model, big_batch), [])]

    def step(each: Row) -> float:
        return each.cpu_us_per_step

    def message(each: Row) -> float:
        return each.cpu_us_per_message

    def rate(each: Row) -> float:
        return each.steps_per_second

    def median(each: Row) -> float:
        return each.p50_us

    alone = [each.run_us for each in ceilings.get(("plain", small, 1), [])]
    echo_and_run = [a + b for a, b in zip(row("echo", small, ONE.name, median), alone, strict=False)]
    figures = results.figures
    few, many = (figures.get(f"frames of 256 beside {n}: CPU us a step") for n in ("1,000", "200,000"))

    def best(model: str) -> list[float]:
        theirs = [[rate(each) for each in found] for (server, of, _), found in rows.items() if (server, of) == ("triton", model)]
        return [max(one_round) for one_round in zip(*theirs, strict=True)]

    frame = FRAME.name
    frames = {model: row("statewise", model, frame, step) for model in (small, large)}
    memory = figures.get("rss bytes a session")
    return [
        _at_most("frames of 256, LSTM 64→256: server CPU ÷ pooled graph in a loop", 1.3, frames[small], graph("pooled", small)),
        _at_most("frames of 256, LSTM 256→1024: likewise", 1.1, frames[large], graph("pooled", large)),
        _at_most("… LSTM 64→256, the loop alone on the machine", 1.3, frames[small], graph("pooled, alone", small)),
        _at_most("… LSTM 256→1024, likewise", 1.1, frames[large], graph("pooled, alone", large)),
        _at_most("pooled graph ÷ plain graph, LSTM 64→256, batch 256", 1.15, graph("pooled", small), graph("plain", small)),
        _at_most(
            "single timesteps, 64 streams: server CPU a message ÷ bare echo's",
            1.3,
            row("statewise", small, SIXTY_FOUR.name, message),
            row("echo", small, SIXTY_FOUR.name, message),
        ),
        _at_most("p50 of one stream ÷ (echo's p50 + a run of one)", 1.4, row("statewise", small, ONE.name, median), echo_and_run),
        _at_least(
            "64 connections: steps a second ÷ Triton's Python backend",
            1.5,
            row("statewise", small, CONNECTIONS.name, rate),
            row("triton", small, CONNECTIONS.name, rate),
        ),
        _at_least(
            "64 sessions of one client, coalesced ÷ Triton with 64 streams",
            5.0,
            row("statewise", small, COALESCED.name, rate),
            row("triton", small, SIXTY_FOUR.name, rate),
        ),
        _at_least("frames of 256 ÷ Triton at its best, LSTM 64→256", 30.0, row("statewise", small, frame, rate), best(small)),
        _at_least("frames of 256 ÷ Triton at its best, LSTM 256→1024", 4.0, row("statewise", large, frame, rate), best(large)),
        _at_most("KiB of memory a session, at 100,000", 4.0, [] if memory is None else [memory], [1024.0]),
        _at_most(
            "a frame of 256 beside 200,000 idle sessions ÷ beside 1,000",
            1.3,
            [] if many is None else [many],
            [] if few is None else [few],
        ),
    ]


def _at_most(what: str, limit: float, above: list[float], below: list[float]) -> Goal:
    ratio = _ratio(above, below)
    return Goal(what, f"≤ {limit:g}", ratio, None if ratio is None else ratio <= limit)


def _at_least(what: str, limit: float, above: list[float], below: list[float]) -> Goal:
    ratio = _ratio(above, below)
    return Goal(what, f"≥ {limit:g}", ratio, None if ratio is None else ratio >= limit)


def _ratio(above: list[float], below: list[float]) -> float | None:
    ratios = [a / b for a, b in zip(above, below, strict=False)]
    return statistics.median(ratios) if ratios else None
