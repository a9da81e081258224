"""The requests of every sequence, in order: what may be asked of the host now, and what waits.

Each sequence with something to do has a line. Its requests are asked for in the order in which they came, a few at a time, whatever
stream or call they came on. The first and the last request of a sequence go alone: a first one waits until all before it are
answered, ends the session that was there, and opens another; what follows waits until it has run. When a last one has run the
session is closed. If a first one fails, no sequence has begun.

Requests between are asked for by who sent them, so that the scheduler is fair to clients; a first or last one is asked for by
`Sequences`, which must hear of the outcome even when the client has gone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from statewise.conversation import Answer, Array, Indices, Step
from statewise.errors import ModelUnknown, Reason, SessionGone, StatewiseError, error
from statewise.host import Host
from statewise.inputs import check_shapes
from statewise.opening import RETAINED_REPLIES, Mode, Open
from statewise.repository import RepositoryError
from statewise.rpc.inference.farewells import Farewell, Farewells
from statewise.rpc.inference.problems import bad, in_tritons_words, not_begun, unknown_model
from statewise.rpc.inference.requests import Client, Request
from statewise.rpc.inference.tensors import constant, lay_out
from statewise.rpc.streams import told
from statewise.sessions import RETRY_SECONDS
from statewise.spec import ModelSpec

IN_FLIGHT = RETAINED_REPLIES - 1
"""Steps of a sequence at a time. One place is left for a step that runs on after its client has gone."""


@dataclass(slots=True, eq=False)
class _Line:
    """A sequence with something to do.

    Attributes:
        session_id: the sequence's.
        waiting: requests that have not been asked for, in order.
        asked: requests that have been, and are not answered.
        held: whether the first or the last request of a sequence is on its way, so that nothing may follow.
        advancing: whether what may be asked for is being asked for. The host may refuse a step at once, and is then still asking.
    """

    session_id: str
    waiting: deque[Request] = field(default_factory=deque)
    asked: set[Request] = field(default_factory=set)
    held: bool = False
    advancing: bool = False


class Sequences:
    """All lines, by session id; changed by the event loop alone."""

    def __init__(self, host: Host, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self._farewells = Farewells()
        self._waiting = 0
        self._bytes = 0  # of what waits
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Sequences {len(self._lines)} with something to do, {self._waiting} requests wait>"

    def ask(self, request: Request) -> None:
        """Puts a request in line, to be told to its client; raises `Overloaded`."""
        limits, size = self._host.limits, request.bytes
        if self._waiting >= limits.pending_steps or (self._waiting and self._bytes + size > limits.pending_bytes):
            message = f"{self._waiting} requests wait for their turn in their sequences already"
            raise error(Reason.OVERLOADED, message, retry_after_seconds=RETRY_SECONDS)
        self._waiting += 1
        self._bytes += size
        line = self._lines.get(request.session_id)
        if line is None:
            line = self._lines[request.session_id] = _Line(request.session_id)
        line.waiting.append(request)
        self._advance(line)

    def explain(self, request: Request, problem: StatewiseError) -> StatewiseError:
        """Returns what a client is told of a problem, in Triton's words."""
        if isinstance(problem, ModelUnknown | SessionGone) and not self._is_there(request.model, request.version):
            return unknown_model(request.model, request.version)
        return in_tritons_words(problem, request.model, request.told.sequence)

    def settled(self, request: Request) -> None:
        """Hears that a request between the first and the last has been answered."""
        line = self._lines.get(request.session_id)
        if line is not None:
            line.asked.discard(request)
            self._advance(line)

    def forget(self, client: Client) -> None:
        """Drops what a client that has gone asked for and has not begun, but for first and last requests on their way."""
        for line in list(self._lines.values()):
            for request in line.waiting:
                if request.client is client:
                    self._left(request)
            line.waiting = deque(each for each in line.waiting if each.client is not client)
            line.asked = {each for each in line.asked if each.alone or each.client is not client}
            self._advance(line)

    def answer(self, tag: Any, answer: Answer, rows: Indices | None) -> None:
        """Is never told of a frame."""
        raise AssertionError("a request is a single step")

    def answer_one(self, tag: Any, answer: Answer, row: int) -> None:
        """Takes the outcome of a first or last request."""
        tag.client.deliver(tag, answer, row)
        if tag.told.end and tag.identity:
            self._keep_last(tag, answer, row)
        self._go_on(tag, close=tag.told.end)

    def refuse(self, tag: Any, _: int, position: int, problem: StatewiseError) -> None:
        """Takes why a first or last request failed; a sequence whose first one failed has not begun."""
        tag.client.fail(tag, position, self.explain(tag, problem))
        self._go_on(tag, close=tag.opened)

    def _advance(self, line: _Line) -> None:
        """Asks for what may be asked for now, and forgets a line that has nothing more to do."""
        if line.advancing:
            return
        line.advancing = True
        while line.waiting and not line.held and len(line.asked) < (1 if line.waiting[0].alone else IN_FLIGHT):
            request = line.waiting.popleft()
            self._left(request)
            if request.told.start:
                line.held = True
                self._spawn(self._begin(request, line))
            else:
                self._try(request, line)
        line.advancing = False
        if not line.waiting and not line.asked and not line.held and self._lines.get(line.session_id) is line:
            del self._lines[line.session_id]

    async def _begin(self, request: Request, line: _Line) -> None:
        """Opens the session of a first request, and asks for its step."""
        under_way = False
        try:
            if not self._answered_before(request):
                await self._open(request)
                under_way = self._try(request, line)
        except Exception as problem:  # noqa: BLE001 (a fault of ours costs one request, and never holds the line)
            self._fail(request, problem)
        if not under_way:
            self._go_on(request, close=request.opened)

    async def _open(self, request: Request) -> None:
        """The one place where a sequence becomes a session.

        A first request that tells its position is the same as before if its id and its inputs are: then it finds the session that
        it opened, where its reply is retained.
        """
        served = await self._host.models.find(request.model, request.version, request.session_id)
        constants = _taken_out(request, served.spec)
        self._check(request, served.spec)  # what cannot run must not end the sequence that is there
        opened = await self._host.open(
            Open(
                request.model,
                request.version,
                request.session_id,
                mode=Mode.RESTART,
                token=request.identity,
                constants=constants,
                number=_number(request.told.sequence),
            )
        )
        request.opened = not opened.resumed
        if request.opened:
            self._farewells.forget(request.session_id)

    def _try(self, request: Request, line: _Line) -> bool:
        """Asks for a step; returns whether somebody will hear, or has heard, of its outcome through the host."""
        if request.told.end and self._answered_before(request):
            return False
        try:
            step = self._step(request)
            line.asked.add(request)
            line.held = request.alone
            self._host.step(step, self if request.alone else request.client, request)
        except Exception as problem:  # noqa: BLE001 (a fault of ours costs one request)
            line.asked.discard(request)
            line.held = False
            self._fail(request, problem)
            return False
        return True

    def _step(self, request: Request) -> Step:
        """Returns the step that a request is; raises `StatewiseError` if it is none."""
        found = self._host.find(request.session_id)
        if request.version not in (0, found.model.version):
            raise not_begun(request.model, request.told.sequence)
        request.served_version, request.returns = found.model.labels[1], found.model.spec.outputs
        inputs, seconds = self._check(request, found.model.spec)
        request.arrays = {}
        return Step(request.session_id, inputs, request.told.position, seconds, ends=request.told.end)

    def _check(self, request: Request, spec: ModelSpec) -> tuple[dict[str, Array], float | None]:
        """Returns the inputs of a step, and how long it may yet wait; raises `StatewiseError`."""
        names = {tensor.name for tensor in spec.outputs}
        for name in request.outputs:
            if name not in names:
                raise bad(f"unexpected inference output {name!r}; the model returns {', '.join(sorted(names))}", "outputs")
        inputs, request.timed = lay_out(spec, request.arrays)
        check_shapes(spec, inputs, self._host.limits.timesteps)
        left = None if request.deadline is None else request.deadline - self._clock()
        if left is not None and left <= 0:
            raise error(Reason.EXPIRED_IN_QUEUE, "the request's timeout passed before it began to run")
        return inputs, left

    def _answered_before(self, request: Request) -> bool:
        """Answers a last request that its sequence ended with; returns whether it did."""
        farewell = self._farewells.find(request.session_id) if request.told.end and request.identity else None
        if farewell is None or farewell.identity != request.identity:
            return False
        request.served_version, request.returns, request.timed = farewell.served_version, farewell.returns, farewell.timed
        request.client.deliver(request, farewell.answer, 0)
        return True

    def _keep_last(self, request: Request, answer: Answer, row: int) -> None:
        """Keeps the last answer of a sequence whose client tells positions."""
        outputs: dict[str, Array] = {name: array[row : row + 1].copy() for name, array in answer.outputs.items()}
        last = Answer(answer.positions[row : row + 1].copy(), outputs, answer.retiring)
        self._farewells.keep(
            request.session_id, Farewell(request.identity, last, request.served_version, request.returns, request.timed)
        )

    def _go_on(self, request: Request, *, close: bool) -> None:
        """Lets a line go on after a first or last request, once the session is closed if it is to be."""
        line = self._lines[request.session_id]
        line.asked.discard(request)
        line.held = close
        if close:
            self._spawn(self._close(line))
        else:
            self._advance(line)

    async def _close(self, line: _Line) -> None:
        try:
            await self._host.close(line.session_id)
        finally:
            line.held = False
            self._advance(line)

    def _fail(self, request: Request, problem: Exception) -> None:
        request.client.fail(request, self._host.position(request.session_id), self.explain(request, told(problem)))

    def _is_there(self, model: str, version: int) -> bool:
        models = self._host.models
        if models.is_ready(model, version):
            return True
        try:
            versions = models.repository.versions(model)
        except RepositoryError:
            return False
        return not version or version in versions

    def _left(self, request: Request) -> None:
        """Counts a request that waits no more."""
        self._waiting -= 1
        self._bytes -= request.bytes

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _taken_out(request: Request, spec: ModelSpec) -> dict[str, Array]:
    """Takes the values that a sequence starts with out of what its first request brings, and returns them."""
    taken = {
        each.name: constant(each.name, request.arrays[each.name], each.shape)
        for each in spec.constants
        if each.name in request.arrays
    }
    request.arrays = {name: array for name, array in request.arrays.items() if name not in taken}
    return taken


def _number(sequence: int | str) -> int:
    """Returns what a model's input for correlation ids is told: an unsigned id in the bits of an int64; 0 for an id of letters."""
    if isinstance(sequence, str):
        return 0
    return sequence - (1 << 64) if sequence >= 1 << 63 else sequence
