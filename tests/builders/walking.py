"""Random walks through a state machine's rules: a hundredth of what Hypothesis' own choices cost, and no shrinking.

A machine is for finding the shortest way to a fault; a walk is for going many ways. A walk that fails is told by its seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

Draws = Mapping[str, tuple[int, Callable[[random.Random], dict[str, Any]]]]
"""Rule → how often, and what it is called with."""


def walk(machine: RuleBasedStateMachine, draws: Draws, seed: int, steps: int) -> None:
    """Calls rules at random where their preconditions hold, checks the invariants after each, and tears the machine down."""
    drawn = random.Random(seed)
    preconditions = {rule.function.__name__: rule.preconditions for rule in machine.rules}
    assert set(preconditions) == set(draws), "a rule that nobody walks"
    names = [name for name, (weight, _) in draws.items() for _ in range(weight)]
    try:
        for _ in range(steps):
            name = drawn.choice(names)
            if all(holds(machine) for holds in preconditions[name]):
                getattr(machine, name)(**draws[name][1](drawn))
                for invariant in machine.invariants:
                    invariant.function(machine)
    finally:
        machine.teardown()


def pick(drawn: random.Random) -> int:
    """Returns what rules choose by."""
    return drawn.randrange(1 << 16)
