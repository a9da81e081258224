"""A progress bar on standard error: epoch, losses, time left. It shows on a terminal only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from statewise_models.training.history import Epoch, best
from statewise_models.training.loop import Observer


class Bar:
    """Shows a run as it goes; the time left is that of all epochs, so early stopping comes as a gift."""

    def __init__(self, progress: Progress, task: TaskID, windows_an_epoch: int) -> None:
        self._progress = progress
        self._task = task
        self._windows_an_epoch = windows_an_epoch

    @classmethod
    @contextmanager
    def unless(cls, observer: Observer | None, title: str, epochs: int, windows_an_epoch: int) -> Iterator[Observer]:
        """Gives `observer`, or a bar if there is none."""
        if observer:
            yield observer
            return
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[losses]}"))
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        with Progress(*columns, *times, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task(title, total=epochs * windows_an_epoch, losses="")
            yield cls(progress, task, windows_an_epoch)

    def window_done(self) -> None:
        """Moves the bar."""
        self._progress.advance(self._task)

    def epoch_done(self, history: Sequence[Epoch]) -> None:
        """Shows the losses; a resumed run's bar jumps to where it stands."""
        last, kept = history[-1], best(history)
        losses = f"epoch {last.number}  loss {last.training_loss:.4f}  validation {last.validation.loss:.4f}  best {kept.number}"
        self._progress.update(self._task, completed=last.number * self._windows_an_epoch, losses=losses)
