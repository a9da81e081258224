"""The road of every training command: check what can be checked, train, export, tell."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from statewise.repository import REPORT_FILE, Repository, RepositoryError, check_name
from statewise_models.cli.int8 import Scored, int8_sheet, rescored
from statewise_models.cli.options import feedback_of, missing_of, periods
from statewise_models.cli.problems import INTERRUPTED, end, told
from statewise_models.cli.tables import table_of
from statewise_models.config import InvalidConfig
from statewise_models.sheet import Sheet

INT8_NOTE = "The version that is served has int8 weights. All else on this page is about the float32 network that it was made from."

if TYPE_CHECKING:
    from statewise_models.data.policy import Policy
    from statewise_models.export import Exported
    from statewise_models.training import Start, Trained, TrainingSettings


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
        from statewise_models.files import check_writable

        check_writable(self.repository / self.model)
        check_writable(self.output)


@contextmanager
def plainly(choices: Mapping[str, Any]) -> Iterator[None]:
    """Turns what may go wrong with a command's options into one line and an exit status."""
    from statewise_models.export import ParityError
    from statewise_models.training import Diverged

    with told(ParityError, Diverged):
        try:
            yield
        except KeyboardInterrupt:
            end(_stopped(choices), INTERRUPTED)


def settings_of(choices: Mapping[str, Any]) -> TrainingSettings:
    """Reads a command's options; raises `InvalidConfig` naming the one that is wrong."""
    from statewise_models.training import TrainingSettings

    if choices["bidirectional"]:
        raise InvalidConfig("a bidirectional network reads the future, so it cannot be streamed: leave --bidirectional out")
    if choices["int8"]:
        from statewise_models.export.int8 import check_int8

        check_int8(choices["cell"])
    values = {field.name: choices[field.name] for field in dataclasses.fields(TrainingSettings) if field.name in choices}
    values |= {"calendar": periods(choices["calendar"])} if "calendar" in choices else {}
    values |= {"feedback": feedback_of(choices["feedback"])}
    values |= {"missing": missing_of(choices["missing"])} if "missing" in choices else {}
    return TrainingSettings(**values)


def policy_of(choices: Mapping[str, Any]) -> Policy:
    """Reads what to do about faults in the data; raises `InvalidConfig`."""
    from statewise_models.data.policy import Policy

    return Policy(choices["gaps"], choices["duplicates"], choices["unsorted"], missing_of(choices["missing"]))  # type: ignore[arg-type]


def start_of(choices: Mapping[str, Any]) -> Start | None:
    """Opens the version that `--init-from` names; raises `InvalidConfig` where there is none, or it holds no network."""
    from statewise_models.published import network_of, published
    from statewise_models.training import Start

    if not choices["init_from"]:
        return None
    version = published(choices["repository"], choices["init_from"])
    return Start(str(version), network_of(version.path))


def stream_words(data: Path, **columns: str | None) -> str:
    """Returns what `statewise stream MODEL` takes to stream a file: its path, and the columns (by option) that are not None."""
    options = [word for option, column in columns.items() if column for word in (f"--{option}", column)]
    return shlex.join(["--data", str(data), *options])


def finish(
    trained: Trained,
    place: Place,
    promote: bool,
    scores: Sequence[Sheet],
    data: Path,
    streamed: str,
    start: Start | None,
    int8: Scored | None = None,
) -> None:
    """Exports a trained network and says what it can do, where everything is and what to do next.

    Args:
        int8: scores another network on the data of `trained`; given where the int8 form is to be published.
    """
    from statewise_models.export import export
    from statewise_models.memory.section import section
    from statewise_models.report import Origin, Section, report

    served = rescored(trained, int8) if int8 else trained.metrics
    about = _about(trained, start, served)
    about |= {"int8": {"scores": _by_split(served)}} if int8 else {}
    origin = Origin(str(data), shlex.join(["statewise", *sys.argv[1:]]), start.name if start else "")

    def page(exported: Exported) -> str:
        rounded = (
            [Section("What int8 costs", INT8_NOTE, sheets=(int8_sheet(exported.int8, trained.metrics),))] if exported.int8 else []
        )
        return report(place.model, trained, scores, origin, exported, more=section(trained), first=rounded)

    exported = export(
        trained.network,
        repository=place.repository,
        model=place.model,
        promote=promote,
        about=about,
        int8=bool(int8),
        report=page,
    )
    kept, begun = about["kept_epoch"], f", started from {start.name}" if start else ""
    epochs = f"{len(trained.history)} epochs (kept: epoch {kept})"
    console = Console()
    console.print(*map(table_of, scores))
    if exported.int8:
        console.print(table_of(int8_sheet(exported.int8, trained.metrics)))
    lines = {
        "trained": f"{trained.network.config.cell}, {trained.parameters:,} parameters, {epochs} in {trained.seconds:.1f} s{begun}",
        "exported": f"{exported.path} (ONNX Runtime within {exported.largest_difference:.1e} of torch)",
        "reported": f"{exported.path.with_name(REPORT_FILE)} (data, curves, scores, settings: open it in a browser)",
        "written": f"{place.output} (plots, metrics, checkpoint)",
    }
    nexts = _next_steps(place, exported, streamed)
    for name, text in [*lines.items(), ("what next", nexts[0]), *(("", words) for words in nexts[1:])]:
        console.print(f"{name:<10}{text}", soft_wrap=True, highlight=False, markup=False)


def _about(trained: Trained, start: Start | None, served: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the spec tells people of how a version came about; what it is, export adds.

    Args:
        served: the metrics of what is published, which may be the int8 form of what was trained.
    """
    from statewise_models.training.history import best

    return {
        "epochs": len(trained.history),
        "kept_epoch": best(trained.history).number,
        **({"init_from": start.name} if start else {}),
        "training_seconds": round(trained.seconds, 1),
        "scores": _by_split(trained.metrics),
        **({"scaled_error": served["scaled_error"]["validation"]} if "scaled_error" in served else {}),
    }


def _by_split(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {split: figures for split, figures in metrics.items() if split in ("validation", "test")}


def _next_steps(place: Place, exported: Exported, streamed: str) -> list[str]:
    """Returns the commands to go on with."""
    serves = f"--repository {shlex.quote(str(place.repository))}"
    nexts = [f"statewise serve {serves}", f"statewise stream {place.model} {streamed}"]
    serving = Repository(place.repository).default(place.model)
    if serving != exported.version:
        both = f"{place.model}@{serving} {place.model}@{exported.version}"
        nexts = [
            f"statewise evaluate {both} --data NEW_DATA {serves}     (is it better than what is served?)",
            f"statewise promote {place.model} {exported.version} {serves}     (until then new sessions get the version of before)",
            *nexts,
        ]
    return nexts


def _stopped(choices: Mapping[str, Any]) -> str:
    """Returns what a person who pressed Ctrl-C can do next."""
    from statewise_models.training.checkpoint import CHECKPOINT_FILE

    if (Place.of(choices).output / CHECKPOINT_FILE).exists():
        return "stopped; the same command with --resume goes on after the last full epoch"
    return "stopped before the first epoch was done: there is nothing to go on from"
