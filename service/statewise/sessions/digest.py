"""What tells a repeated step from another one: a 64-bit hash of a step's inputs, for many steps at once.

The hash is multilinear (Lemire and Kaser, "Strongly universal string hashing is fast", 2014): a fixed random constant for each
32-bit word, the products summed modulo 2^64. It guards against mistakes, not against an adversary: the constants are public,
and whoever can send a step to a session can send it another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
Digests = NDArray[np.uint64]

_SEED = 0x5357  # part of no format: digests live as long as the process
_constants = np.empty(0, np.uint64)


def digests(inputs: Mapping[str, Array], names: Sequence[str], also: int) -> Digests:
    """Returns a digest for each step of a column.

    Args:
        inputs: `[steps, timesteps, …]` each.
        names: the inputs in the model's order, so that the order in which they were sent does not matter.
        also: a small number that tells requests apart which differ in more than their inputs.
    """
    words = [_words(inputs[name]) for name in names]
    factors, addend = _constants_of(tuple(each.shape[1] for each in words), also)
    total: Digests = words[0].astype(np.uint64) @ factors[0]
    for each, theirs in zip(words[1:], factors[1:], strict=True):
        total += each.astype(np.uint64) @ theirs
    total += addend
    return total


@lru_cache(256)
def _constants_of(counts: tuple[int, ...], also: int) -> tuple[list[Digests], np.uint64]:
    """Returns the factors of each input's words, and what their numbers and `also` add to every digest."""
    factors, addend, offset = [], also, 0
    for count in counts:
        drawn = _factors(offset + count + 1)
        addend += int(drawn[offset]) * count
        factors.append(drawn[offset + 1 : offset + count + 1])
        offset += count + 1
    return factors, np.uint64(addend % 2**64)


def _words(array: Array) -> NDArray[np.uint32]:
    """Returns the bytes of each step as 32-bit words, the last one filled with zeros."""
    flat = np.ascontiguousarray(array).reshape(len(array), -1)
    if flat.itemsize % 4:
        data = flat.view(np.uint8)
        flat = np.pad(data, ((0, 0), (0, -data.shape[1] % 4)))
    return flat.view(np.uint32)


def _factors(count: int) -> NDArray[np.uint64]:
    global _constants
    if len(_constants) < count:
        size = 1 << max(10, (count - 1).bit_length())
        _constants = np.random.Generator(np.random.PCG64(_SEED)).integers(0, 2**64, size, np.uint64, endpoint=False)
    return _constants[:count]
