"""Which outputs are the next values of which inputs: proposed from names and shapes, and only where there is one reading.

A pair is never made by order: `h, c` and `c_out, h_out` would be carried crosswise, and nothing would ever fail.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from statewise.importing.foreign import Port
from statewise.importing.problems import Refused

Pairs = tuple[tuple[str, str], ...]
_DIRECTIONS = {"0", "t", "i", "o", "n", "in", "input", "inputs", "out", "output", "outputs", "next", "new", "updated"}
_DIRECTIONS |= {"prev", "previous", "last", "old", "init", "initial", "cur", "current", "past", "present"}


def told_pairs(states: Pairs, inputs: Mapping[str, Port], outputs: Mapping[str, Port]) -> Pairs:
    """Returns pairs as they were told, checked; raises `Refused`."""
    for taken, returned in states:
        if taken not in inputs:
            raise Refused(f"--state {taken}:{returned}: the file has no input {taken!r}; it has {_listed(inputs)}")
        if returned not in outputs:
            raise Refused(f"--state {taken}:{returned}: the file has no output {returned!r}; it has {_listed(outputs)}")
        if inputs[taken].dtype != outputs[returned].dtype:
            raise Refused(f"--state {taken}:{returned}: {taken} is {inputs[taken].dtype}, {returned} {outputs[returned].dtype}")
    for side in zip(*states, strict=True):
        twice = sorted({name for name in side if side.count(name) > 1})
        if twice:
            raise Refused(f"--state: {twice[0]!r} is in more than one pair")
    return states


def proposed_pairs(inputs: Mapping[str, Port], outputs: Mapping[str, Port]) -> tuple[Pairs, str]:
    """Returns the only reading of names, or else of shapes, and which of the two it was; raises `Refused` where there are more.

    Args:
        inputs: those of the file that may be states.
    """
    if by_name := _readings(inputs, outputs, by_name=True):
        return _only(by_name, inputs, outputs), "names"
    by_shape = _readings(inputs, outputs, by_name=False)
    if not by_shape:
        raise Refused(
            f"no output looks like the next value of an input, so it has no state to keep. {_both(inputs, outputs)}. "
            "If one does, say --state INPUT:OUTPUT"
        )
    pairs = _only(by_shape, inputs, outputs)
    if len(pairs) > 1:
        raise _ambiguous(by_shape)
    return pairs, "shapes"


def stems(name: str, *, output: bool) -> set[str]:
    """Returns what is left of a name without the words that tell the direction; `hn` may be `h` too, `x_out` is `x`."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+", name)
    kept = [word.lower() for word in words if word.lower() not in _DIRECTIONS]
    found = {"_".join(kept)} if kept else set()
    if output and kept:
        for ending in ("n", "out", "o", "next"):
            if len(kept[-1]) > len(ending) and kept[-1].endswith(ending):
                found.add("_".join([*kept[:-1], kept[-1][: -len(ending)]]))
    return found


def _readings(inputs: Mapping[str, Port], outputs: Mapping[str, Port], *, by_name: bool) -> dict[str, list[str]]:
    """Returns for each input the outputs that may be its next value."""
    readings: dict[str, list[str]] = {}
    for taken in inputs.values():
        for returned in outputs.values():
            alike = bool(stems(taken.name, output=False) & stems(returned.name, output=True)) or not by_name
            if alike and _fits(taken, returned):
                readings.setdefault(taken.name, []).append(returned.name)
    return readings


def _fits(taken: Port, returned: Port) -> bool:
    if taken.dtype != returned.dtype:
        return False
    if not returned.dims:  # of unknown shape, or a scalar
        return True
    if len(taken.dims) != len(returned.dims):
        return False
    known = [(a, b) for a, b in zip(taken.dims, returned.dims, strict=True) if isinstance(a, int) and isinstance(b, int)]
    return all(a == b for a, b in known)


def _only(readings: dict[str, list[str]], inputs: Mapping[str, Port], outputs: Mapping[str, Port]) -> Pairs:
    taken = [name for names in readings.values() for name in names]
    if any(len(names) > 1 for names in readings.values()) or len(set(taken)) < len(taken):
        raise _ambiguous(readings)
    if len(readings) == len(inputs):
        raise Refused(f"every input looks like a state, so none would be left for what a client sends. {_both(inputs, outputs)}")
    return tuple((name, names[0]) for name, names in readings.items())


def _ambiguous(readings: dict[str, list[str]]) -> Refused:
    listed = "\n".join(f"  --state {name}:{returned}" for name, names in readings.items() for returned in names)
    return Refused(f"which outputs are the next values of which inputs can be read in more ways than one. Say which of:\n{listed}")


def _both(inputs: Mapping[str, Port], outputs: Mapping[str, Port]) -> str:
    return f"It takes {_listed(inputs)}; it returns {_listed(outputs)}"


def _listed(ports: Mapping[str, Port]) -> str:
    return ", ".join(map(str, ports.values())) or "nothing"
