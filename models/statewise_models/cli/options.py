"""Options that the training commands share, and those that are written as one word but mean several values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statewise_models.config import FEEDBACK_TAKES, OUT, InvalidConfig, Route

NETWORK, LEARNING, RESULT, FAULTS = "Network", "Learning", "Result", "Faults in the data (refused, unless told otherwise)"

Model = Annotated[str, typer.Option(help="What to call it in the repository; clients open sessions by this name.")]
Repository = Annotated[
    Path, typer.Option(help="The folder of models.", envvar="STATEWISE_REPOSITORY", rich_help_panel=RESULT, show_default=True)
]
Output = Annotated[
    Path | None,
    typer.Option(help="Checkpoint, metrics and plots go here.", show_default="var/training/MODEL", rich_help_panel=RESULT),
]
Promote = Annotated[
    bool, typer.Option("--promote", help="New sessions get this version (the first one they get anyway).", rich_help_panel=RESULT)
]
Int8 = Annotated[
    bool,
    typer.Option("--int8", help="Publish int8 weights (lstm, on CPU): smaller, often faster, less exact.", rich_help_panel=RESULT),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the checkpoint in --output, with the same settings.", rich_help_panel=RESULT)
]
InitFrom = Annotated[
    str | None,
    typer.Option(
        help="MODEL[@VERSION]: start from that version's weights, not from drawn ones.",
        show_default=False,
        rich_help_panel=LEARNING,
    ),
]

Cell = Annotated[
    str, typer.Option(help="elman, lstm, peephole (an LSTM whose gates see the cell state) or gru.", rich_help_panel=NETWORK)
]
Hidden = Annotated[int, typer.Option(help="Units of each layer.", rich_help_panel=NETWORK)]
Layers = Annotated[int, typer.Option(help="Recurrent layers, one upon the other.", rich_help_panel=NETWORK)]
Activation = Annotated[str, typer.Option(help="Of the Elman cell: tanh or relu.", rich_help_panel=NETWORK)]
Feedback = Annotated[
    str,
    typer.Option(
        help="Of the Elman cell: outputs of the last timestep that layers see, as FROM:TO. 1:1,2:1,out:1 feeds layer 1 its own, "
        "layer 2's and the network's; out:1 alone is Jordan's network.",
        show_default="each layer its own",
        rich_help_panel=NETWORK,
    ),
]
Dropout = Annotated[float, typer.Option(help="Between layers, while training.", rich_help_panel=NETWORK)]
Calendar = Annotated[
    str,
    typer.Option(
        help="Periods that the model knows, in timesteps: 48,336 are day and week of half-hours. Clients then send the time too.",
        rich_help_panel=NETWORK,
    ),
]
Harmonics = Annotated[int, typer.Option(help="Sine and cosine pairs for each period.", rich_help_panel=NETWORK)]
Bidirectional = Annotated[bool, typer.Option("--bidirectional", hidden=True)]

Epochs = Annotated[int, typer.Option(help="At most so many passes over the data.", rich_help_panel=LEARNING)]
Patience = Annotated[int, typer.Option(help="Stop after so many epochs without a better one.", rich_help_panel=LEARNING)]
Window = Annotated[int, typer.Option(help="Timesteps that gradients reach back; state is carried on.", rich_help_panel=LEARNING)]
Lanes = Annotated[int, typer.Option(help="Sequences side by side; a long one is cut into so many.", rich_help_panel=LEARNING)]
LearningRate = Annotated[float, typer.Option(help="Its peak.", rich_help_panel=LEARNING)]
WeightDecay = Annotated[float, typer.Option(help="Pulls weights towards zero.", rich_help_panel=LEARNING)]
Seed = Annotated[int, typer.Option(help="The same seed, data and machine give the same weights.", rich_help_panel=LEARNING)]
Validation = Annotated[float, typer.Option(help="Share that chooses the best epoch.", rich_help_panel=LEARNING)]
Test = Annotated[float, typer.Option(help="Share that only the report sees; 0 for none.", rich_help_panel=LEARNING)]
Accelerator = Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=LEARNING)]

Time = Annotated[str | None, typer.Option(help="The time column: ISO datetimes or integers.", show_default="rows count")]
Missing = Annotated[
    list[str] | None,
    typer.Option(
        help="refuse, mask, or COLUMN=mask (may be given again). mask: the model is told that one is absent.",
        show_default="refuse",
        rich_help_panel=FAULTS,
    ),
]
Gaps = Annotated[str, typer.Option(help="refuse, fill (with missing values) or split (into series).", rich_help_panel=FAULTS)]
Duplicates = Annotated[str, typer.Option(help="refuse, first, last or mean.", rich_help_panel=FAULTS)]
Unsorted = Annotated[str, typer.Option(help="refuse or sort.", rich_help_panel=FAULTS)]


def periods(text: str) -> tuple[int, ...]:
    """Reads `--calendar`; raises `InvalidConfig`."""
    try:
        return tuple(int(word) for word in text.split(",")) if text.strip() else ()
    except ValueError:
        raise InvalidConfig(f"--calendar takes whole numbers of timesteps with commas between: 48,336, not {text!r}") from None


def names(words: list[str] | None) -> list[str]:
    """Reads an option that takes names with commas between and may be given again."""
    return [name.strip() for word in words or [] for name in word.split(",")]


def feedback_of(text: str) -> tuple[Route, ...]:
    """Reads `--feedback`; raises `InvalidConfig`."""
    return tuple(_route(word.strip()) for word in text.split(",")) if text.strip() else ()


def _route(word: str) -> Route:
    source, _, target = word.partition(":")
    if target == "out":
        raise InvalidConfig(f"--feedback {word}: out is fed to layers, and nothing is fed to it; {FEEDBACK_TAKES}")
    if not (target.isdecimal() and (source == "out" or source.isdecimal())):
        raise InvalidConfig(f"--feedback cannot be read at {word!r}; {FEEDBACK_TAKES}")
    return Route(OUT if source == "out" else int(source), int(target))


def missing_of(words: list[str] | None) -> dict[str, str] | str:
    """Reads `--missing`: one word for all columns, or COLUMN=word for some; raises `InvalidConfig`."""
    words = words or ["refuse"]
    if len(words) == 1 and "=" not in words[0]:
        return words[0]
    pairs = [word.rpartition("=") for word in words]
    if not all(column and choice for column, _, choice in pairs):
        raise InvalidConfig(f"--missing takes one word for all columns, or COLUMN=word for each, not {' '.join(words)!r}")
    return {column: choice for column, _, choice in pairs}
