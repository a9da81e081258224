"""Forecasts: half-hourly electricity demand, one timestep ahead, the last quarter of twelve weeks held out."""

from __future__ import annotations

from bench.learning.ledger import CELLS, Quiet, Result, Unit
from statewise_models.data.table import read_table
from statewise_models.training import TrainingSettings, train_forecast

DATA = "examples/data/demand.csv"
DAY, WEEK = 48, 336
SEEDS = (0, 1, 2)


def units() -> list[Unit]:
    """Returns a unit for each cell and seed."""
    return [Unit(f"demand/{cell}/{seed}", _train, (cell, seed), "rmse") for cell in CELLS for seed in SEEDS]


def _train(cell: str, seed: int) -> Result:
    """Trains as `statewise train forecast --calendar 48,336 --difference` does."""
    table = read_table(DATA, targets=["demand"], time="time")
    settings = TrainingSettings(cell=cell, calendar=(DAY, WEEK), difference=True, seed=seed)
    trained = train_forecast(table, settings, observer=Quiet())
    scores = trained.metrics["test"]["demand"]
    return {
        **scores["model"],
        "seconds": trained.seconds,
        "parameters": trained.parameters,
        "baselines": {method: figures for method, figures in scores.items() if method != "model"},
        "validation_rmse": trained.metrics["validation"]["demand"]["model"]["rmse"],
    }
