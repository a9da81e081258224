"""The n-grams of docs/evaluation.md, on texts short enough to reckon by hand."""

from __future__ import annotations

import math

import pytest

from bench.learning.baselines import bits_per_character, count, probability


def test_a_unigram_by_hand():
    """After aab: a twice and b once of 3, of 2 kinds; two parts of the uniform 1/4 are mixed in, so p(a) = (2 + 2/4) / 5."""
    followers = count("aab", 1)
    assert probability(followers, "", "a", 4) == pytest.approx(0.5)
    assert probability(followers, "", "b", 4) == pytest.approx(0.3)
    assert probability(followers, "", "c", 4) == pytest.approx(0.1)
    assert bits_per_character("aab", "ac", 1, 4) == pytest.approx(-(math.log2(0.5) + math.log2(0.1)) / 2)


def test_a_bigram_by_hand():
    """After aab, a was followed once by a and once by b: p(b | a) = (1 + 2·0.3) / (2 + 2). Nothing followed b: p(a | b) = p(a)."""
    followers = count("aab", 2)
    assert probability(followers, "a", "b", 4) == pytest.approx(0.4)
    assert probability(followers, "b", "a", 4) == pytest.approx(0.5)
    # The first character of the tested text follows the last one of the training text, b.
    assert bits_per_character("aab", "ab", 2, 4) == pytest.approx(-(math.log2(0.5) + math.log2(0.4)) / 2)


@pytest.mark.parametrize("context", ["", "b", "ab", "zz"])
def test_probabilities_add_up(context):
    """Whatever the context, known or not, the vocabulary's probabilities sum to one."""
    followers = count("abracadabra", 3)
    assert sum(probability(followers, context, character, 6) for character in "abrcdz") == pytest.approx(1.0)
