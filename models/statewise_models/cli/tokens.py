"""`statewise train tokens`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from statewise_models.cli import options as o
from statewise_models.cli.run import Place, finish, plainly, settings_of, start_of, stream_words
from statewise_models.sheet import Sheet

Data = Annotated[Path, typer.Argument(help="A UTF-8 text file.")]
Level = Annotated[str, typer.Option(help="What a token is: characters (those of the file) or bytes (any text).")]
Embedding = Annotated[int, typer.Option(help="Length of a token's vector.", rich_help_panel=o.NETWORK)]


def tokens(
    data: Data,
    model: o.Model,
    level: Level = "characters",
    cell: o.Cell = "lstm",
    hidden: o.Hidden = 128,
    layers: o.Layers = 1,
    activation: o.Activation = "tanh",
    feedback: o.Feedback = "",
    dropout: o.Dropout = 0.0,
    embedding: Embedding = 32,
    bidirectional: o.Bidirectional = False,
    epochs: o.Epochs = 20,
    patience: o.Patience = 5,
    window: o.Window = 64,
    lanes: o.Lanes = 32,
    learning_rate: o.LearningRate = 0.005,
    weight_decay: o.WeightDecay = 1e-4,
    validation: o.Validation = 0.05,
    test: o.Test = 0.05,
    seed: o.Seed = 0,
    accelerator: o.Accelerator = "auto",
    repository: o.Repository = Path("var/repository"),
    output: o.Output = None,
    promote: o.Promote = False,
    int8: o.Int8 = False,
    resume: o.Resume = False,
    init_from: o.InitFrom = None,
) -> None:
    """Continue text, a character or byte at a time.

    Validation and test are the last parts of the text. The report gives bits a token, beside those of a code that knows only how
    frequent each token is; sample.txt in --output is a text that the model made.

    **Example**

    statewise train tokens book.txt --model writer --level bytes --hidden 256 --layers 2 --dropout 0.2
    """
    choices = locals()
    with plainly(choices):
        settings, place, start = settings_of(choices), Place.of(choices), start_of(choices)
        from statewise_models.data.text import Level as DataLevel
        from statewise_models.data.text import read_text
        from statewise_models.training import train_tokens
        from statewise_models.training.tokens import rescore_text

        text = read_text(data, level=cast(DataLevel, level))
        place.check()
        trained = train_tokens(text, settings, output=place.output, resume=resume, start=start)
        score = (lambda network: rescore_text(network, text, settings)) if int8 else None
        scores = (_scores(trained.metrics, level.removesuffix("s")),)
        finish(trained, place, promote, scores, data, stream_words(data), start, score)


def _scores(metrics: dict[str, Any], token: str) -> Sheet:
    """Returns the bits a token beside those of the tokens' frequencies."""
    rows = tuple(
        (split, f"{figures['bits_per_token']:.3f}", f"{figures['frequency_bits']:.3f}", f"{figures['count']:,}")
        for split in ("validation", "test")
        if (figures := metrics.get(split))
    )
    return Sheet("Next token", ("split",), (f"bits a {token}", "by frequency alone", "tokens"), (rows,))
