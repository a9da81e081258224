"""The example's labelled data: Japanese Vowels, in the official split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from statewise_models.data.labelled import read_labelled

DATA = Path(__file__).parents[2] / "examples" / "data"
CHANNELS = [f"c{number}" for number in range(1, 13)]
TEST_COUNTS = [31, 35, 88, 44, 29, 24, 40, 50, 29]


@pytest.mark.parametrize(("split", "counts", "longest"), [("train", [30] * 9, 26), ("test", TEST_COUNTS, 29)])
def test_vowels_are_the_official_split(split, counts, longest):
    """Nine speakers with the utterances that the data's authors tell, 7 to 29 timesteps of 12 coefficients, none missing."""
    data = read_labelled(DATA / f"vowels-{split}.csv", inputs=CHANNELS, label="speaker", series="utterance", time="t")
    assert data.labels == tuple("123456789")
    found = Counter(sequence.label for sequence in data.sequences)
    assert [found[label] for label in range(9)] == counts
    lengths = {len(sequence.x) for sequence in data.sequences}
    assert (min(lengths), max(lengths)) == (7, longest)
