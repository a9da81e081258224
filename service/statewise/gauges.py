"""What is read of the sessions when the metrics are scraped. It costs the steps nothing, and a scrape some microseconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from statewise.config import Limits
from statewise.metrics import ServerMetrics
from statewise.sessions import Sessions

ACTIVE_SECONDS = 10.0


def watch(metrics: ServerMetrics, sessions: Sessions, limits: Limits, clock: Callable[[], float]) -> None:
    """Has the metrics read how many sessions and steps there are, and may be."""

    def active() -> int:
        """Returns the sessions that have a step pending or had one a moment ago. Another thread asks, and changes nothing."""
        recent = clock() - sessions.last_used < ACTIVE_SECONDS
        return int(np.count_nonzero(sessions.live & (recent | (sessions.chains.length > 0))))

    metrics.sessions.labels("active").set_function(active)
    metrics.sessions.labels("idle").set_function(lambda: int(np.count_nonzero(sessions.live)) - active())
    metrics.sessions_free.set_function(lambda: sessions.capacity - len(sessions))
    metrics.sessions_limit.set(sessions.capacity)
    metrics.steps_pending.set_function(lambda: len(sessions.steps))
    metrics.steps_pending_limit.set(limits.pending_steps)
    metrics.batch_steps_limit.set(limits.batch)
