"""What must hold of the core at every transition, whatever has happened; checked from the inside, by counting.

Every row is exactly one of free, committed (by one session or several), in flight, kept by a cut of a long step, or pinned; every
step is free or in exactly one chain; every ready step waits in line once; every column of the batcher counts what it has left.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from statewise.batcher import Batcher
from statewise.scheduler import Scheduler
from statewise.sessions import INITIAL_ROW, NONE, RESERVED_ROWS, Rows, Sessions
from statewise.sessions.replies import _size as size

Pins = Mapping[int, Iterable[int]]
"""Rows that are held from outside the table (in flight, pinned), by pool."""


def check_table(sessions: Sessions, pools: Mapping[int, Rows], in_flight: Pins, pinned: Pins) -> None:
    """Checks sessions, chains, steps, rows and replies against each other."""
    free = set(sessions.directory._stack)
    taken = [number for number in range(sessions.capacity) if number not in free]
    assert len(taken) + len(sessions.directory._stack) == sessions.capacity, "a session number is free twice"
    _check_names(sessions, taken)
    used = _check_chains(sessions, taken)
    _check_steps(sessions, used)
    for number, rows in pools.items():
        _check_rows(sessions, number, rows, taken, used, list(in_flight.get(number, ())), list(pinned.get(number, ())))
    _check_replies(sessions, taken)


def _check_names(sessions: Sessions, taken: list[int]) -> None:
    directory = sessions.directory
    live = [number for number in taken if sessions.live[number]]
    assert {directory.ids[number]: number for number in live} == directory._numbers
    assert sessions._ending == len(taken) - len(live), "sessions that have ended are counted wrongly"
    assert all(sessions.chains.length[number] for number in taken if number not in live), "an ended session was not reclaimed"
    assert {number: token for token, number in directory._tokens.items()} == directory._token_of
    counts = Counter(int(sessions.model[number]) for number in taken)
    assert dict(counts) == sessions._sessions_of_model


def _check_chains(sessions: Sessions, taken: list[int]) -> list[int]:
    """Returns the steps in chains."""
    used: list[int] = []
    for number in range(sessions.capacity):
        if number not in taken:
            assert not sessions.live[number]
            assert not sessions.chains.length[number]
            continue
        chain = sessions.chains.of(number)
        assert all(sessions.steps.session[step] == number for step in chain)
        assert sessions.chains.last[number] == (chain[-1] if chain else NONE)
        assert sessions.chains.length[number] == len(chain) <= sessions.retained[number]
        assert sessions.chains.tail[number] == sessions.position[number] + sum(
            int(sessions.steps.timesteps[step]) for step in chain
        )
        assert not any(sessions.steps.running[step] or sessions.steps.done[step] for step in chain[1:]), "only the first may run"
        used += chain
    return used


def _check_steps(sessions: Sessions, used: list[int]) -> None:
    steps = sessions.steps
    free = steps._stack[: steps._free].tolist()
    assert sorted(free + used) == list(range(len(steps._stack))), "a step is free and used, or neither"
    assert len(steps) == len(used)


def _check_rows(
    sessions: Sessions, pool: int, rows: Rows, taken: list[int], used: list[int], in_flight: list[int], pinned: list[int]
) -> None:
    here = [number for number in taken if sessions.pool[number] == pool]
    committed = [int(sessions.row[number]) for number in here]
    cuts = [int(sessions.steps.row[s]) for s in used if sessions.steps.done[s] and sessions.pool[sessions.steps.session[s]] == pool]
    assert len(set(in_flight + cuts)) == len(in_flight + cuts), "a row is written by two"
    assert not set(in_flight + cuts) & set(committed + pinned), "a row that is being written is read by others"
    holders = Counter(row for row in committed + cuts + in_flight + pinned if row != INITIAL_ROW)
    assert all(row >= RESERVED_ROWS for row in holders)
    free = rows._stack[: rows._free].tolist()
    assert len(set(free)) == len(free) == rows.free, "a row is free twice"
    assert sorted([*free, *holders]) == list(range(RESERVED_ROWS, rows.count)), "a row is free and held, or lost"
    assert {row: rows.holders(row) for row in holders} == dict(holders), "a row's holders are counted wrongly"


def _check_replies(sessions: Sessions, taken: list[int]) -> None:
    replies = sessions.replies
    assert replies._long_bytes == sum(size(outputs) for outputs in replies._long.values())
    for place, number in replies._long:
        assert number in taken, "a reply outlives its session"
        assert replies.start[place, number] != NONE


def check_line(sessions: Sessions, scheduler: Scheduler) -> None:
    """Checks that exactly the steps that are ready wait, each once."""
    ready = [
        int(first)
        for first, live in zip(sessions.chains.first, sessions.live, strict=True)
        if live and first != NONE and not sessions.steps.running[first]
    ]
    waiting = (scheduler._turn_of_step > 0).nonzero()[0].tolist()
    assert sorted(ready) == waiting
    assert len(scheduler) == len(waiting)
    lined = [
        step
        for queues in scheduler._lines.values()
        for queue in queues.values()
        for turn, steps in queue
        for step in steps.tolist()
        if scheduler._turn_of_step[step] == turn
    ]
    assert sorted(lined) == waiting


def check_batcher(batcher: Batcher, pinned: Pins) -> None:
    """Checks everything, between two turns of the loop."""
    sessions = batcher._sessions
    in_flight: defaultdict[int, list[int]] = defaultdict(list)
    for run in batcher._under_way:
        in_flight[run.model.pool.number] += run.targets.tolist()
    pools = {served.pool.number: served.pool.rows for served in batcher._arrivals._models.ready.values()}
    check_table(sessions, pools, in_flight, pinned)
    check_line(sessions, batcher._scheduler)
    seen: Counter[int] = Counter()
    pending = batcher._pending
    for number, column in pending._columns.items():
        own = column.steps[column.steps != NONE].tolist()
        assert column.left == len(own) > 0
        assert column.number == number
        assert all(pending._column_of[step] == number for step in own)
        seen.update(own)
    assert sorted(seen.elements()) == sorted(set(range(len(sessions.steps._stack))) - set(_free(sessions)))
    assert set(pending._joined) <= set(seen)
    for step in seen:
        column, place = pending._columns[int(pending._column_of[step])], int(pending._place_of[step])
        waiters = int(column.audience.waits(place)) + len(pending._joined.get(step, ()))
        assert sessions.steps.waiters[step] == waiters
    assert pending.bytes == sum(column.bytes for column in pending._columns.values())
    assert {number for numbers in pending._columns_of.values() for number in numbers} <= set(pending._columns)


def _free(sessions: Sessions) -> list[int]:
    return list(sessions.steps._stack[: sessions.steps._free].tolist())


def check_nothing_is_left(batcher: Batcher) -> None:
    """Checks that all is given back: for when every session has been closed."""
    sessions = batcher._sessions
    assert (len(sessions), len(sessions.steps), sessions.replies._long_bytes) == (0, 0, 0)
    assert [served.pool.rows.used for served in batcher._arrivals._models.ready.values() if served.pool.rows.used] == []
    pending = batcher._pending
    assert not pending._columns
    assert not pending.bytes
    assert not pending._joined
    assert not any(pending._columns_of.values())
    assert not batcher._scheduler._lines
