"""`statewise train forecast`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from statewise_models.cli import options as o
from statewise_models.cli.run import Place, finish, plainly, policy_of, settings_of, start_of, stream_words
from statewise_models.sheet import Row, Sheet

Data = Annotated[Path, typer.Argument(help="A CSV (with a header) or Parquet file, a row a timestep.")]
Targets = Annotated[list[str], typer.Option(help="A column to forecast one timestep ahead; may be given again.")]
Inputs = Annotated[
    list[str] | None, typer.Option(help="A further column that the model sees, besides the targets; may be given again.")
]
Series = Annotated[str | None, typer.Option(help="The column that tells series apart.", show_default="the file is one")]
Difference = Annotated[
    bool,
    typer.Option(
        "--difference",
        help="Learn the change to the next timestep; the answer is still the value.",
        rich_help_panel=o.NETWORK,
    ),
]


def forecast(
    data: Data,
    target: Targets,
    model: o.Model,
    input: Inputs = None,  # noqa: A002 (the option's name)
    series: Series = None,
    time: o.Time = None,
    cell: o.Cell = "lstm",
    hidden: o.Hidden = 64,
    layers: o.Layers = 1,
    activation: o.Activation = "tanh",
    feedback: o.Feedback = "",
    dropout: o.Dropout = 0.0,
    calendar: o.Calendar = "",
    harmonics: o.Harmonics = 2,
    difference: Difference = False,
    bidirectional: o.Bidirectional = False,
    epochs: o.Epochs = 100,
    patience: o.Patience = 25,
    window: o.Window = 48,
    lanes: o.Lanes = 16,
    learning_rate: o.LearningRate = 0.01,
    weight_decay: o.WeightDecay = 1e-4,
    validation: o.Validation = 0.125,
    test: o.Test = 0.25,
    seed: o.Seed = 0,
    accelerator: o.Accelerator = "auto",
    missing: o.Missing = None,
    gaps: o.Gaps = "refuse",
    duplicates: o.Duplicates = "refuse",
    unsorted: o.Unsorted = "refuse",
    repository: o.Repository = Path("var/repository"),
    output: o.Output = None,
    promote: o.Promote = False,
    int8: o.Int8 = False,
    resume: o.Resume = False,
    init_from: o.InitFrom = None,
) -> None:
    """Forecast columns of a table one timestep ahead.

    The model takes raw values and answers in the column's own unit; scales, calendar and missing values are part of it. Validation
    and test are the last parts of each series in time, and the report compares with persistence ("as it is now") and with the value
    one calendar period ago.

    **Examples**

    statewise train forecast examples/data/demand.csv --target demand --time time --calendar 48,336 --difference --model demand

    statewise train forecast plant.parquet --target load --input wind --series meter --missing wind=mask --model load
    """
    choices = locals()
    with plainly(choices):
        settings = settings_of(choices)
        policy, place, start = policy_of(choices), Place.of(choices), start_of(choices)
        from statewise_models.data.table import read_table
        from statewise_models.training import train_forecast
        from statewise_models.training.forecast import rescore_table

        inputs = [*target, *(name for name in input or [] if name not in target)]
        table = read_table(data, targets=target, inputs=inputs, series=series, time=time, policy=policy)
        place.check()
        trained = train_forecast(table, settings, output=place.output, resume=resume, start=start)
        streamed = stream_words(data, series=series, time=time if calendar else None)
        score = (lambda network: rescore_table(network, table, settings)) if int8 else None
        finish(trained, place, promote, _scores(trained.metrics), data, streamed, start, score)


def _scores(metrics: dict[str, Any]) -> Sheet:
    """Returns the errors of the model beside those of the naive forecasts."""
    groups: list[tuple[Row, ...]] = []
    for split, targets in metrics.items():
        for target, methods in targets.items():
            groups.append(tuple((split, target, method, *_errors(figures)) for method, figures in methods.items()))
    numbers = ("RMSE", "MAE", "MAPE %", "timesteps")
    return Sheet("One timestep ahead, in the target's own unit", ("split", "target", "forecast"), numbers, tuple(groups), "model")


def _errors(figures: dict[str, Any]) -> Row:
    mape = "–" if figures["mape"] is None else f"{figures['mape']:.2f}"
    return (f"{figures['rmse']:,.4g}", f"{figures['mae']:,.4g}", mape, f"{figures['count']:,}")
