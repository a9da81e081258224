"""Versions that continue text: bits a token over one pass, beside the best code that knows only how frequent each token is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from statewise.spec import Vocabulary
from statewise_models.data.policy import InvalidData
from statewise_models.data.text import read_tokens
from statewise_models.evaluation.columns import Columns
from statewise_models.evaluation.judged import Figures, Judged, Measure, same
from statewise_models.evaluation.served import Served

FREQUENCY = "by frequency alone"


def judge_text(versions: Sequence[Served], columns: Columns, warm_up: int) -> Judged:
    """Returns how well versions guess a text's next token, the whole text in one session; errors as `judge_forecasts`.

    The baseline knows the frequencies of the very tokens that are scored, so it is the best of its kind.

    Args:
        warm_up: tokens that are read but not scored.
    """
    vocabulary: Vocabulary = same(versions, "vocabulary", [version.spec.vocabulary for version in versions])
    tokens = read_tokens(columns.data, vocabulary).tokens
    first = max(warm_up, 1)  # nothing is guessed for the first token
    if len(tokens) <= first:
        raise InvalidData(f"{columns.data}: nothing is left to score: it has {len(tokens)} tokens, {first} are not scored")
    scored = tokens[first:]
    overall: dict[str, Figures] = {
        str(version): {"bits_per_token": float(_bits(version, tokens)[first - 1 :].mean()), "count": len(scored)}
        for version in versions
    }
    shares = np.bincount(scored, minlength=len(vocabulary)) / len(scored)
    overall[FREQUENCY] = {"bits_per_token": float(-np.log2(shares[scored]).mean()), "count": len(scored)}
    kind = "byte" if vocabulary.bytes else "character"
    measure = Measure("bits_per_token", f"bits a {kind}", ".4f")
    return Judged(tuple(map(str, versions)), (measure,), {f"next {kind}": overall}, f"{kind}s")


def _bits(version: Served, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns what each token but the first cost, `[tokens − 1]`, by the model's guess after those before it."""
    bits = np.empty(len(tokens) - 1)
    tensor = version.spec.inputs[0]
    for chunk in version.walk([{tensor.name: tokens[:-1].astype(tensor.dtype)}]):
        when = slice(chunk.begin, chunk.begin + len(chunk.output))
        scores = chunk.output[:, 0].astype(np.float64)
        scores -= scores.max(axis=1, keepdims=True)
        came = scores[np.arange(len(scores)), tokens[1:][when]]
        bits[when] = (np.log(np.exp(scores).sum(axis=1)) - came) / np.log(2)
    return bits
