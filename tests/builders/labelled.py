"""Labelled sequences of unlike length that can be told apart, for tests of classification."""

from __future__ import annotations

import numpy as np

from statewise_models.data.labelled import Labelled, LabelledSequence

LABELS = ("falling", "rising")


def slopes(count: int = 40, seed: int = 0) -> Labelled:
    """Returns noisy lines of 4 to 14 timesteps that fall or rise, as many of each label."""
    random = np.random.default_rng(seed)
    sequences = []
    for number in range(count):
        label, length = number % 2, int(random.integers(4, 15))
        time = np.arange(length)
        x = (2 * label - 1) * time / 5 + random.normal(0, 0.1, length)
        sequences.append(
            LabelledSequence(f"s{number:03}", f"s{number:03}", x[:, None].astype(np.float32), time.astype(np.int64), label)
        )
    return Labelled(("x",), LABELS, tuple(sequences), 0.0)
