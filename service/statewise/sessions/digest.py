"""What tells a repeated step from another one: a 64-bit hash of a step's inputs, for many steps at once.

The hash is multilinear (Lemire and Kaser, "Strongly universal string hashing is fast", 2014): a fixed random constant for each
32-bit word, the products summed modulo 2^64. It guards against mistakes, not against an adversary: the constants are public,
and whoever can send a step to a session can send it another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    total: Digests | np.uint64 = np.uint64(also)
    offset = 0
    for name in names:
        words = _words(inputs[name])
        count = words.shape[1]
        factors = _factors(offset + count + 1)
        total = total + words.astype(np.uint64) @ factors[offset + 1 : offset + count + 1]
        total += factors[offset : offset + 1] * np.uint64(count)
        offset += count + 1
    assert isinstance(total, np.ndarray)
    return total


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
