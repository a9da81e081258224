"""What a client keeps: all that the store has not, of every session, and little more, whatever order sessions come and go in."""

import random
from collections import Counter

import numpy as np
import pytest

from statewise.client.kept import Kept, Sent
from statewise.errors import SessionGone


class Session:
    """What `Kept` asks of one, and the values of all its timesteps."""

    def __init__(self):
        self.durable_position = 0
        self.values = []

    @property
    def position(self):
        """Timesteps consumed."""
        return len(self.values)


def sent(sessions, timesteps, value):
    """Returns steps of sessions, which are further on after it."""
    rows = np.arange(len(sessions) * timesteps, dtype=np.float32).reshape(len(sessions), timesteps, 1) + value
    for session, row in zip(sessions, rows, strict=True):
        session.values += row[:, 0].tolist()
    return Sent([reference(session) for session in sessions], [session.position for session in sessions], {"x": rows}, timesteps)


def reference(session):
    """Returns what tells of a session as long as it is there."""
    return lambda: session if session.values is not None else None


def told(kept, session):
    return kept.since(session, session.durable_position, session.position)["x"][:, 0].tolist()


def test_what_is_not_kept_cannot_be_sent_again():
    """A session that is resumed inside a step, or before the first that is kept, is lost and not silently wrong."""
    kept, session = Kept(), Session()
    for timesteps in (2, 3, 4):
        kept.add(sent([session], timesteps, 10 * timesteps))
    assert kept.since(session, 2, 9)["x"][:, 0].tolist() == session.values[2:]
    assert kept.since(session, 2, 5)["x"][:, 0].tolist() == session.values[2:5]
    for position, until in ((1, 9), (3, 9), (0, 10), (2, 8)):
        with pytest.raises(SessionGone, match="is not kept"):
            kept.since(session, position, until)
    with pytest.raises(SessionGone, match="is not kept"):
        kept.since(Session(), 0, 2)


@pytest.mark.parametrize("seed", range(20))
def test_all_that_is_needed_is_there_and_not_much_more(seed):
    """Sessions of unlike speed, in frames of any size; some are closed or never checkpointed again, and what they left goes."""
    chance = random.Random(seed)
    kept, sessions = Kept(), [Session() for _ in range(40)]
    for turn in range(600):
        lively = [session for number, session in enumerate(sessions) if chance.random() < (number % 5 + 1) / 6]
        kept.add(sent(lively or sessions[:1], chance.choice([1, 1, 1, 3]), turn))
        for session in sessions:
            if session.position - session.durable_position > 30:
                session.durable_position = session.position - chance.randrange(3)  # inside a step, it may be
        if turn % 97 == 50:
            gone = sessions.pop(chance.randrange(len(sessions)))
            gone.values = None
            sessions.append(Session())
        if turn % 50 == 49:
            for session in sessions:
                start = min(session.durable_position, session.position)
                whole = kept_from(kept, session, start)
                assert whole == session.values[session.position - len(whole) :]
                assert session.position - len(whole) <= start
    needed = sum(session.position - session.durable_position for session in sessions)
    assert len(kept) < 4 * needed + 80


def kept_from(kept, session, position):
    """Returns the values since the step in which a position lies."""
    for start in (position, position - 1, position - 2):
        if start >= 0 and start < session.position:
            try:
                return kept.since(session, start, session.position)["x"][:, 0].tolist()
            except SessionGone:
                continue
    return []


def test_what_comes_after_the_first_that_is_asked_for_is_found_too():
    """Of one that is asked for later, and again: steps come in while others are resumed."""
    kept, sessions = Kept(), [Session() for _ in range(3)]
    for turn in range(100):
        kept.add(sent(sessions, 1, turn))
        asked = sessions[turn % 3]
        assert told(kept, asked) == asked.values
    assert len(kept._index) in (0, 3)


def test_an_idle_session_keeps_no_frame_alive():
    """One of a hundred that stops stepping leaves its own rows, not everybody's."""
    kept, sessions = Kept(), [Session() for _ in range(100)]
    for turn in range(10):
        kept.add(sent(sessions, 1, turn))
    idle, *others = sessions
    for turn in range(10, 200):
        for session in others:
            session.durable_position = session.position
        kept.add(sent(others, 1, turn))
    assert told(kept, idle) == [float(turn) for turn in range(10)]
    rows = Counter(len(each.arrays["x"]) for each in kept._sent)
    assert rows.pop(1) == 10
    assert sum(size * count for size, count in rows.items()) < 4 * len(others)
