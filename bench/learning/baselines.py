"""Smoothed character n-grams: what a network that continues text has to beat.

Interpolation of Witten & Bell (1991): after a context h seen n times with t kinds of followers, a character c that followed it m
times has the probability

    p(c | h) = (m + t · p(c | h without its first character)) / (n + t)

down to the empty context, and below it 1 / vocabulary. There is nothing to tune.
"""

from __future__ import annotations

import math
from collections import Counter

Followers = dict[str, Counter[str]]


def count(training: str, order: int) -> Followers:
    """Returns, for every context of up to `order − 1` characters, how often each character follows it."""
    followers: Followers = {}
    for length in range(order):
        for place in range(length, len(training)):
            followers.setdefault(training[place - length : place], Counter())[training[place]] += 1
    return followers


def probability(followers: Followers, context: str, character: str, vocabulary: int) -> float:
    """Returns p(character | context), of a vocabulary of so many characters."""
    value = 1 / vocabulary
    for begin in range(len(context), -1, -1):
        seen = followers.get(context[begin:])
        if seen is None:
            break
        value = (seen[character] + len(seen) * value) / (seen.total() + len(seen))
    return value


def bits_per_character(training: str, tested: str, order: int, vocabulary: int) -> float:
    """Returns the cross-entropy of `tested` under the n-grams of `training`: order 1 is the unigram, 3 the trigram."""
    followers = count(training, order)
    before = training[len(training) - order + 1 :] if order > 1 else ""
    text = before + tested
    places = range(len(before), len(text))
    total = sum(math.log2(probability(followers, text[p - order + 1 : p], text[p], vocabulary)) for p in places)
    return -total / len(tested)
