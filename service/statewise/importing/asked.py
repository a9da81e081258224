"""What a user says of a file: by options of the command, or by a `config.pbtxt`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from statewise.spec import Control

EVERY = ""
"""Stands for every input and output among the axes that are told."""


@dataclass(frozen=True, slots=True)
class Fed:
    """What a control input tells: its kind, and what stands for no and yes."""

    kind: Control
    off: float = 0.0
    on: float = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What is told and need not be found; empty is not told.

    Attributes:
        states: pairs of input and output.
        initial: state input → a number, or an array of the state of one session.
        given: state inputs whose first value Open may give.
        constants: inputs that stay what they are through a session → their default, which Open may replace.
        fixed: inputs that are the same for all sessions and become part of the file → their value.
        controls: inputs that the server feeds.
        lengths: the input that takes how many timesteps each row has.
        dims: the name of a dynamic axis, or `TENSOR.AXIS` → its length.
        batch_axis, time_axis: tensor → axis, `None` for none; `EVERY` tells it of all inputs and outputs that are not named.
        batch: the most sessions of one run.
        timesteps: the most timesteps of one run.
        idle_timeout_seconds: of a session whose Open names none.
    """

    states: tuple[tuple[str, str], ...] = ()
    initial: Mapping[str, Any] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    controls: Mapping[str, Fed] = field(default_factory=dict)
    lengths: str | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    batch_axis: Mapping[str, int | None] = field(default_factory=dict)
    time_axis: Mapping[str, int | None] = field(default_factory=dict)
    batch: int = 0
    timesteps: int = 0
    idle_timeout_seconds: float = 0.0
