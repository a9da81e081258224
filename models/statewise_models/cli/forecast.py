"""`statewise train forecast`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statewise_models.cli import options as o
from statewise_models.cli.run import Place, finish, plainly, policy_of, settings_of, start_of, stream_words
from statewise_models.cli.scores import scores_sheets
from statewise_models.config import InvalidConfig

Data = Annotated[Path, typer.Argument(help="A CSV (with a header) or Parquet file, a row a timestep.")]
Targets = Annotated[list[str], typer.Option(help="A column to forecast one timestep ahead; may be given again.")]
Inputs = Annotated[
    list[str] | None, typer.Option(help="A further column that the model sees, besides the targets; may be given again.")
]
Series = Annotated[str | None, typer.Option(help="The column that tells series apart.", show_default="the file is one")]
Known = Annotated[
    list[str] | None,
    typer.Option(
        help="Columns known one timestep ahead (promotions, holidays), with commas between; may be given again. The model sees at "
        "each timestep the value of the next one, and that is what clients send."
    ),
]
Cutoff = Annotated[
    str | None,
    typer.Option(
        help="When test begins in all series, instead of --test: a time as the file has it. Without it, several series with a time "
        "column are cut at common times too, so that the parts have their shares.",
        show_default="by share",
        rich_help_panel=o.LEARNING,
    ),
]
ValidationFrom = Annotated[
    str | None,
    typer.Option(
        help="When validation begins in all series, instead of --validation; before --cutoff.",
        show_default="by share",
        rich_help_panel=o.LEARNING,
    ),
]
Scale = Annotated[
    str,
    typer.Option(
        help="global: one for all series. series: each its own, which sessions are given at Open.", rich_help_panel=o.NETWORK
    ),
]
Difference = Annotated[
    bool,
    typer.Option(
        "--difference",
        help="Learn the change to the next timestep; the answer is still the value.",
        rich_help_panel=o.NETWORK,
    ),
]


def forecast(
    context: typer.Context,
    data: Data,
    target: Targets,
    model: o.Model,
    input: Inputs = None,  # noqa: A002 (the option's name)
    known: Known = None,
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
    scale: Scale = "global",
    bidirectional: o.Bidirectional = False,
    epochs: o.Epochs = 100,
    patience: o.Patience = 25,
    window: o.Window = 48,
    lanes: o.Lanes = 16,
    learning_rate: o.LearningRate = 0.01,
    weight_decay: o.WeightDecay = 1e-4,
    validation: o.Validation = 0.125,
    test: o.Test = 0.25,
    validation_from: ValidationFrom = None,
    cutoff: Cutoff = None,
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
    and test are the last parts in time, cut at the same times in all series, and the report compares with persistence ("as it is
    now") and with the value one calendar period ago.

    **Examples**

    statewise train forecast examples/data/demand.csv --target demand --time time --calendar 48,336 --difference --model demand

    statewise train forecast plant.parquet --target load --input wind --series meter --missing wind=mask --model load

    statewise train forecast stores.csv --target sales --series store --time day --known promo,holiday --scale series --model store
    """
    choices = locals()
    with plainly(choices):
        _refuse_both(context, ("--cutoff", "cutoff", "test"), ("--validation-from", "validation_from", "validation"))
        settings = settings_of(choices | {"cutoff": cutoff or "", "validation_from": validation_from or ""})
        policy, place, start = policy_of(choices), Place.of(choices), start_of(choices)
        from statewise_models.data.table import read_table
        from statewise_models.training import train_forecast
        from statewise_models.training.forecast import rescore_table

        inputs = [*target, *(name for name in input or [] if name not in target)]
        table = read_table(data, targets=target, inputs=inputs, known=o.names(known), series=series, time=time, policy=policy)
        place.check()
        trained = train_forecast(table, settings, output=place.output, resume=resume, start=start)
        streamed = stream_words(data, series=series, time=time if calendar else None)
        score = (lambda network: rescore_table(network, table, settings)) if int8 else None
        finish(trained, place, promote, scores_sheets(trained.metrics), data, streamed, start, score)


def _refuse_both(context: typer.Context, *pairs: tuple[str, str, str]) -> None:
    """Refuses a time to cut at beside the share that it stands for; `pairs` name the option, its parameter and the share's."""
    for option, when, share in pairs:
        source = context.get_parameter_source(share)
        if context.params[when] and source is not None and source.name == "COMMANDLINE":
            raise InvalidConfig(f"{option} tells when a part begins, and --{share} how much it has: give one of them")
