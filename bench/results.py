"""What was measured, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ceiling:
    """ONNX Runtime alone: CPU microseconds a step, and the fastest mean time of a run."""

    cpu_us_per_step: float
    run_us: float


@dataclass(frozen=True, slots=True)
class Row:
    """One workload against one server.

    Attributes:
        server: `statewise`, `echo` or `triton`.
        steps_per_second: timesteps, where a message carries several.
        cpu_us_per_step: of the server process and its children.
        cpu_us_per_message: likewise.
        batch_fill: the mean number of steps of an engine run; 0 where the server does not tell.
    """

    server: str
    model: str
    workload: str
    steps_per_second: float
    cpu_us_per_step: float
    cpu_us_per_message: float
    p50_us: float
    p99_us: float
    batch_fill: float = 0.0


@dataclass(slots=True)
class Results:
    """Everything of one run. A row or ceiling is a list, one entry a round."""

    machine: dict[str, str]
    rows: dict[tuple[str, str, str], list[Row]] = field(default_factory=dict)
    ceilings: dict[tuple[str, str, int], list[Ceiling]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Enters a row."""
        self.rows.setdefault((row.server, row.model, row.workload), []).append(row)
