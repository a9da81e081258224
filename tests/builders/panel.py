"""A panel: stores of very different size, opened and closed at different times, with promotions that are known a day before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from statewise_models.data.table import Table, read_table

STORES = {"corner": (3.0, 0, 300), "market": (400.0, 40, 260), "depot": (2e6, 0, 240), "kiosk": (50.0, 90, 210)}
"""Each store's size, first day and days."""
START = np.datetime64("2000-01-01")


def frame(seed: int = 0) -> pd.DataFrame:
    """Returns the panel as a table of rows, the stores interleaved: a week, the next day's promotion and some noise, times size."""
    random = np.random.default_rng(seed)
    parts = []
    for name, (size, first, days) in STORES.items():
        day = np.arange(first, first + days)
        promo = (random.random(days) < 0.3).astype(int)
        sales = size * (5 + np.sin(2 * np.pi * day / 7) + 2 * promo + random.normal(0, 0.05, days))
        parts.append(pd.DataFrame({"day": START + day, "store": name, "sales": sales, "promo": promo, "rain": np.cos(day / 9)}))
    return pd.concat(parts).sort_values(["day", "store"], ignore_index=True)


def write(folder: Path, data: pd.DataFrame | None = None) -> Path:
    """Writes the panel, or `data`, as CSV."""
    path = folder / "stores.csv"
    (frame() if data is None else data).to_csv(path, index=False)
    return path


def table(folder: Path, data: pd.DataFrame | None = None, **options: object) -> Table:
    """Reads the panel, or `data`, to forecast sales."""
    chosen = {"targets": ["sales"], "inputs": ["sales", "rain"], "known": ["promo"], "series": "store", "time": "day", **options}
    return read_table(write(folder, data), **chosen)
