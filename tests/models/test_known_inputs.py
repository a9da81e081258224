"""Known inputs: at timestep t the network sees what is known of t + 1, in training as in serving; an off-by-one would show."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from statewise.spec import METADATA_KEY, ModelSpec
from statewise_models.data.policy import InvalidData
from statewise_models.data.table import read_table
from statewise_models.export import plain_model
from statewise_models.training import TrainingSettings, train_forecast
from statewise_models.training.forecast import configure, cut_table, piece_of

SETTINGS = TrainingSettings(cell="elman", hidden=8, epochs=60, window=32, lanes=8, learning_rate=0.05, accelerator="cpu")


@pytest.fixture
def drawn(tmp_path):
    """A target that is three times what was drawn for the same timestep, and nothing else tells of; 400 timesteps."""
    promo = np.random.default_rng(0).uniform(-1, 1, 400)
    pd.DataFrame({"sales": 3 * promo, "promo": promo}).to_csv(tmp_path / "drawn.csv", index=False)
    return tmp_path / "drawn.csv"


def test_what_is_known_of_the_next_timestep_is_learned(drawn):
    """target(t + 1) = 3 · promo(t + 1): forecast nearly if promo is known ahead, and not at all if it is not."""
    known = train_forecast(read_table(drawn, targets=["sales"], inputs=["sales"], known=["promo"]), SETTINGS)
    present = train_forecast(read_table(drawn, targets=["sales"], inputs=["sales", "promo"]), SETTINGS)
    errors = [trained.metrics["test"]["sales"]["model"]["rmse"] for trained in (known, present)]
    spread = 3 / np.sqrt(3)
    assert errors[0] < 0.1 * spread
    assert errors[1] > 0.8 * spread


def test_a_timestep_has_the_next_ones_known_values_and_its_own_others(drawn):
    """Column by column: the last row is seen only as what was known of it."""
    table = read_table(drawn, targets=["sales"], inputs=["sales"], known=["promo"])
    series = table.series[0]
    piece = piece_of(configure(table, cut_table(table, SETTINGS), SETTINGS), {}, series)
    assert len(piece) == len(series) - 1
    np.testing.assert_array_equal(piece.inputs["x"][:, 0], series.y[:-1, 0])
    np.testing.assert_array_equal(piece.inputs["x"][:, 1], series.x[1:, 1])


def test_a_missing_known_value_is_masked_where_it_is_sent(tmp_path):
    """NaN of the next timestep reaches the network at this one."""
    promo = np.arange(80.0)
    promo[40] = np.nan
    pd.DataFrame({"sales": np.arange(80.0), "promo": promo}).to_csv(tmp_path / "gappy.csv", index=False)
    from statewise_models.data.policy import Policy

    table = read_table(tmp_path / "gappy.csv", targets=["sales"], known=["promo"], policy=Policy(missing={"promo": "mask"}))
    settings = dataclasses.replace(SETTINGS, missing={"promo": "mask"})
    piece = piece_of(configure(table, cut_table(table, settings), settings), {}, table.series[0])
    assert np.flatnonzero(np.isnan(piece.inputs["x"][:, 1])).tolist() == [39]


def test_the_spec_tells_which_values_are_the_next_timesteps(drawn):
    """`ahead` has a 1 for each known column; a model without them has none, as those exported before."""

    def exported(**columns):
        settings = dataclasses.replace(SETTINGS, epochs=1)
        network = train_forecast(read_table(drawn, targets=["sales"], **columns), settings).network
        text = {entry.key: entry.value for entry in plain_model(network).metadata_props}[METADATA_KEY]
        return text, ModelSpec.from_json(text)

    text, spec = exported(known=["promo"])
    assert (spec.inputs[0].features, spec.inputs[0].ahead) == (("sales", "promo"), (0, 1))
    assert exported(inputs=["sales", "promo"])[1].inputs[0].ahead == ()
    before = json.loads(text)
    for tensor in (*before["inputs"], *before["outputs"]):
        del tensor["ahead"]
    assert ModelSpec.from_json(json.dumps(before)).inputs[0].ahead == ()


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"known": ["sales"]}, "known column 'sales' is a target"),
        ({"known": ["promo"], "inputs": ["promo"]}, "known column 'promo' is an input too"),
        ({"known": ["promo", "promo"]}, "known column 'promo' is named more than once"),
        ({"known": ["holiday"]}, "has no column 'holiday'; its columns are 'sales', 'promo'"),
    ],
)
def test_a_column_that_cannot_be_known_ahead_is_refused(drawn, columns, told):
    """One line that names the column."""
    with pytest.raises(InvalidData, match=told):
        read_table(drawn, targets=["sales"], **columns)
