"""Sessions that are stepped together, without any I/O: what is checked before, and what the caller gets after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

from statewise.client.described import Model
from statewise.client.exchange import Exchange, Outputs
from statewise.client.frames import Columns
from statewise.errors import FrameFailed, Reason, error


class Framed:
    """Sessions of one model version. A step of theirs takes `[sessions, features]`, or `[sessions, timesteps, features]`.

    It returns `[sessions, outputs]` or `[sessions, timesteps, outputs]`. If some of the sessions fail, the others have advanced
    all the same: `FrameFailed` then has the outputs, and why each of those failed.

    Raises:
        InvalidInput: the sessions are not of one model version, or one is there twice.
    """

    def __init__(self, exchanges: Sequence[Exchange]) -> None:
        versions = {(exchange.model.name, exchange.model.version) for exchange in exchanges}
        if len(versions) != 1:
            told = ", ".join(f"{name}@{version}" for name, version in sorted(versions)) or "none"
            raise error(Reason.BAD_FIELD, f"sessions: a frame takes sessions of one model version, not of {told}", field="sessions")
        if len({exchange.session_id for exchange in exchanges}) < len(exchanges):
            raise error(Reason.BAD_FIELD, "sessions: a frame takes each session once", field="sessions")
        self._exchanges = list(exchanges)
        self._keeping = [exchange for exchange in exchanges if exchange.keeps]

    def __len__(self) -> int:
        return len(self._exchanges)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} sessions of {self.model.name}@{self.model.version}>"

    @property
    def model(self) -> Model:
        """The model version of all the sessions."""
        return self._exchanges[0].model

    @property
    def full(self) -> list[Exchange]:
        """The sessions of which so much is kept that no step may be sent."""
        return [exchange for exchange in self._keeping if exchange.full]

    def ask(
        self, x: ArrayLike | None, extra: Mapping[str, ArrayLike], last: bool, timeout_seconds: float | None
    ) -> tuple[Columns, bool]:
        """Returns what is asked, and whether the answer loses its time axis; raises `InvalidInput` or `Overloaded`."""
        for exchange in self.full:
            exchange.refuse_if_full()
        arrays, single = self._exchanges[0].columns(len(self), x, extra)
        timesteps = next(iter(arrays.values())).shape[1] if arrays else 0
        return Columns(self._exchanges, arrays, timesteps, last, timeout_seconds), single or last

    @staticmethod
    def answer(columns: Columns, single: bool) -> Outputs:
        """Returns the outputs; raises `FrameFailed` if a row failed."""
        outputs = {name: array[:, 0] for name, array in columns.outputs.items()} if single else columns.outputs
        result = next(iter(outputs.values())) if len(outputs) == 1 else outputs
        if columns.problems:
            raise FrameFailed(columns.problems, result)
        return result
