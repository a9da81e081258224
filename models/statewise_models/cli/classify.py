"""`statewise train classify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from statewise_models.cli import options as o
from statewise_models.cli.run import Place, finish, plainly, policy_of, settings_of, start_of, stream_words
from statewise_models.sheet import Sheet

Data = Annotated[Path, typer.Argument(help="A CSV (with a header) or Parquet file, a row a timestep of a sequence.")]
Inputs = Annotated[list[str], typer.Option(help="A column that the model sees; may be given again.")]
Label = Annotated[str, typer.Option(help="The column with the label, the same in all rows of a sequence.")]
Learn = Annotated[
    str,
    typer.Option(
        help="every timestep, the later the more, so that a label can be read early; or the last.", rich_help_panel=o.LEARNING
    ),
]
Series = Annotated[str, typer.Option(help="The column that tells sequences apart.")]


def classify(
    data: Data,
    input: Inputs,  # noqa: A002 (the option's name)
    label: Label,
    series: Series,
    model: o.Model,
    time: o.Time = None,
    cell: o.Cell = "lstm",
    hidden: o.Hidden = 64,
    layers: o.Layers = 1,
    activation: o.Activation = "tanh",
    feedback: o.Feedback = "",
    dropout: o.Dropout = 0.0,
    calendar: o.Calendar = "",
    harmonics: o.Harmonics = 2,
    bidirectional: o.Bidirectional = False,
    learn: Learn = "every",
    epochs: o.Epochs = 100,
    patience: o.Patience = 25,
    lanes: o.Lanes = 16,
    learning_rate: o.LearningRate = 0.005,
    weight_decay: o.WeightDecay = 1e-3,
    validation: o.Validation = 0.15,
    test: o.Test = 0.15,
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
    """Classify sequences; the label's probabilities can be read at every timestep.

    Sequences may differ in length. Validation and test are drawn at random, the same share of each label; the report counts a
    sequence as right if its last timestep is.

    **Example**

    statewise train classify vowels.csv --series utterance --label speaker --input c1 --input c2 --input c3 --model speaker
    """
    choices = locals()
    with plainly(choices):
        settings = settings_of(choices)
        policy, place, start = policy_of(choices), Place.of(choices), start_of(choices)
        from statewise_models.data.labelled import read_labelled
        from statewise_models.training import train_classify
        from statewise_models.training.classify import rescore_sequences

        sequences = read_labelled(data, inputs=input, label=label, series=series, time=time, policy=policy)
        place.check()
        trained = train_classify(sequences, settings, output=place.output, resume=resume, start=start)
        streamed = stream_words(data, series=series, time=time if calendar else None)
        score = (lambda network: rescore_sequences(network, sequences, settings)) if int8 else None
        finish(trained, place, promote, (_scores(trained.metrics),), data, streamed, start, score)


def _scores(metrics: dict[str, Any]) -> Sheet:
    """Returns the accuracy beside that of always saying the most frequent label."""
    rows = tuple(
        (split, f"{figures['accuracy']:.1%}", f"{figures['majority']:.1%}", f"{figures['count']:,}")
        for split in ("validation", "test")
        if (figures := metrics.get(split))
    )
    return Sheet("Right at the last timestep", ("split",), ("accuracy", "always the most frequent", "sequences"), (rows,))
