"""The road of every training command: check what can be checked, train, export, tell.

A user's mistake ends with status 2, trouble of the machine with 1, each with one line on standard error.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console, RenderableType

from statewise.repository import Repository, RepositoryError, check_name
from statewise_models.cli.options import missing_of, periods
from statewise_models.config import InvalidConfig

if TYPE_CHECKING:
    from statewise_models.data.policy import Policy
    from statewise_models.training import Trained, TrainingSettings

MISTAKE, TROUBLE, INTERRUPTED = 2, 1, 130


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run's results go.

    Attributes:
        model: its name in the repository.
        repository: the folder of models.
        output: the folder of checkpoint, metrics and plots.
    """

    model: str
    repository: Path
    output: Path

    @classmethod
    def of(cls, choices: Mapping[str, Any]) -> Place:
        """Reads a command's options; raises `InvalidConfig` for a name that cannot be a model's."""
        try:
            model = check_name(choices["model"])
        except RepositoryError as error:
            raise InvalidConfig(str(error)) from error
        return cls(model, choices["repository"], choices["output"] or Path("var/training") / model)

    def check(self) -> None:
        """Raises `OSError` where either folder cannot be written: before training, not after."""
        from statewise_models.training.files import check_writable

        check_writable(self.repository / self.model)
        check_writable(self.output)


@contextmanager
def plainly(choices: Mapping[str, Any]) -> Iterator[None]:
    """Turns what may go wrong with a command's options into one line and an exit status."""
    from statewise_models.data.policy import InvalidData
    from statewise_models.export import ParityError
    from statewise_models.training import Diverged

    try:
        yield
    except (InvalidData, InvalidConfig) as error:
        _end(str(error), MISTAKE)
    except (RepositoryError, ParityError, Diverged) as error:
        _end(str(error), TROUBLE)
    except OSError as error:
        _end(f"{error.filename}: {error.strerror}" if error.filename else str(error), TROUBLE)
    except KeyboardInterrupt:
        _end(_stopped(choices), INTERRUPTED)


def settings_of(choices: Mapping[str, Any]) -> TrainingSettings:
    """Reads a command's options; raises `InvalidConfig` naming the one that is wrong."""
    from statewise_models.training import TrainingSettings

    if choices["bidirectional"]:
        raise InvalidConfig("a bidirectional network reads the future, so it cannot be streamed: leave --bidirectional out")
    values = {field.name: choices[field.name] for field in dataclasses.fields(TrainingSettings) if field.name in choices}
    values |= {"calendar": periods(choices["calendar"])} if "calendar" in choices else {}
    values |= {"missing": missing_of(choices["missing"])} if "missing" in choices else {}
    return TrainingSettings(**values)


def policy_of(choices: Mapping[str, Any]) -> Policy:
    """Reads what to do about faults in the data; raises `InvalidConfig`."""
    from statewise_models.data.policy import Policy

    return Policy(choices["gaps"], choices["duplicates"], choices["unsorted"], missing_of(choices["missing"]))  # type: ignore[arg-type]


def stream_words(data: Path, **columns: str | None) -> str:
    """Returns what `statewise stream MODEL` takes to stream a file: its path, and the columns (by option) that are not None."""
    options = [word for option, column in columns.items() if column for word in (f"--{option}", column)]
    return shlex.join(["--data", str(data), *options])


def finish(trained: Trained, place: Place, promote: bool, scores: RenderableType, streamed: str) -> None:
    """Exports a trained network and says what it can do, where everything is and what to do next."""
    from statewise_models.export import export

    config = trained.network.config
    about = {
        "cell": config.cell,
        "layers": config.layers,
        "hidden_size": config.hidden_size,
        "parameters": trained.parameters,
        "epochs": len(trained.history),
        "training_seconds": round(trained.seconds, 1),
        "scores": {split: figures for split, figures in trained.metrics.items() if split in ("validation", "test")},
    }
    exported = export(trained.network, repository=place.repository, model=place.model, promote=promote, about=about)
    console = Console()
    console.print(scores)
    lines = {
        "trained": f"{config.cell}, {trained.parameters:,} parameters, {len(trained.history)} epochs in {trained.seconds:.1f} s",
        "exported": f"{exported.path} (ONNX Runtime within {exported.largest_difference:.1e} of torch)",
        "written": f"{place.output} (plots, metrics, checkpoint)",
    }
    serves = f"--repository {shlex.quote(str(place.repository))}"
    nexts = [f"statewise serve {serves}", f"statewise stream {place.model} {streamed}"]
    if Repository(place.repository).default(place.model) != exported.version:
        nexts = [
            f"statewise promote {place.model} {exported.version} {serves}     (until then new sessions get the version of before)",
            *nexts,
        ]
    for name, text in [*lines.items(), *zip(["what next", "", ""], nexts, strict=False)]:
        console.print(f"{name:<10}{text}", soft_wrap=True, highlight=False, markup=False)


def _stopped(choices: Mapping[str, Any]) -> str:
    """Returns what a person who pressed Ctrl-C can do next."""
    from statewise_models.training.checkpoint import CHECKPOINT_FILE

    if (Place.of(choices).output / CHECKPOINT_FILE).exists():
        return "stopped; the same command with --resume goes on after the last full epoch"
    return "stopped before the first epoch was done: there is nothing to go on from"


def _end(message: str, status: int) -> NoReturn:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    raise typer.Exit(status)
