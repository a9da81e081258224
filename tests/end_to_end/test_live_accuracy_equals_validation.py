"""What a server tells of live forecasts is what training told of the same timesteps: the same error, the same persistence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders import panel
from builders.asking import Listener
from builders.hosted import host_of
from statewise.conversation import Step
from statewise.host import Open
from statewise.repository import MODEL_FILE
from statewise.spec import SERIES_MEAN, SERIES_SCALE
from statewise_models.data.table import Table
from statewise_models.export import export
from statewise_models.training import TrainingSettings, train_forecast
from statewise_models.training.forecast import cut_table
from statewise_models.training.panel import scales_of

VERSION = {"model": "store", "version": "1"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The panel."""
    return panel.table(tmp_path_factory.mktemp("panel"))


@pytest.mark.parametrize("scale", ["global", "series"])
async def test_the_validation_part_streamed_has_the_error_of_training(data: Table, scale: str, tmp_path: Path) -> None:
    """Of all series together; and no value of the training part is outside its range, each being counted."""
    settings = TrainingSettings(cell="gru", hidden=8, epochs=1, window=32, scale=scale, difference=True, accelerator="cpu")
    trained = train_forecast(data, settings)
    export(
        trained.network, repository=tmp_path, model="store", about={"scaled_error": trained.metrics["scaled_error"]["validation"]}
    )
    assert (tmp_path / "store" / "1" / MODEL_FILE).exists()
    scales = scales_of(trained.network.config)
    async with host_of(tmp_path) as host:
        read = host._metrics.registry.get_sample_value

        def counts():
            names = ("error_sum", "persistence_error_total", "error_count")
            return np.array([read(f"statewise_forecast_{name}", VERSION) for name in names])

        errors = np.zeros(3)
        for series, part in zip(data.series, cut_table(data, settings), strict=True):
            given = {}
            if scales:
                own = scales[series.id]
                given = {SERIES_MEAN: np.array(own.mean, np.float32), SERIES_SCALE: np.array(own.scale, np.float32)}
            opened = await host.open(Open("store", constants=given))
            seen = series.x.copy()
            seen[:-1, 2] = series.x[1:, 2]  # promotions are told a day before
            listener = Listener()
            for begin, end in ((0, part.train_end), (part.train_end, part.validation_end)):
                before = counts()
                for first in range(begin, end, 7):
                    host.step(Step(opened.session_id, {"x": seen[first : min(first + 7, end)]}), listener, None)
                    await host.batcher.until_quiet()
                if not begin and scale == "global" and series is data.series[0]:
                    assert read("statewise_input_values_total", VERSION) == part.train_end * seen.shape[1]
                    assert read("statewise_input_values_outside_total", VERSION) == 0
                errors += counts() - before if begin or not part.train_end else 0
            assert not [told.problem for told in listener.heard if told.problem]
        told = trained.metrics["scaled_error"]["validation"]
        assert errors[2] > 50
        assert errors[0] / errors[2] == pytest.approx(told["model"], rel=1e-4)
        assert errors[1] / errors[2] == pytest.approx(told["persistence"], rel=1e-6)
        assert read("statewise_forecast_validation_error", VERSION) == told["model"]
