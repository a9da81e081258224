"""The server's metrics by name. None is labelled by session or by client: of those there is no end.

They are updated for each batch, or read when they are scraped. What can be counted from the start is there from the start, as zero:
a rate of nothing and no rate at all are different things to an alert.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from statewise.errors import Reason
from statewise.metrics.accuracy import AccuracyMetrics
from statewise.metrics.calls import CallMetrics
from statewise.metrics.families import Exposed, Families, once

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
AGES = (1, 10, 60, 600, 3_600, 6 * 3_600, 86_400, 7 * 86_400)
LENGTHS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
VERSION = ("model", "version")
ENDS = ("closed", "expired", "lost", "moved")
STATES = ("active", "idle", "spilled")
STORE_OPERATIONS = ("write", "read", "claim", "delete")
CODES = ("OK", *Reason)


class ServerMetrics:
    """The server's counters, gauges and histograms, in the registry that is given."""

    def __init__(self, registry: CollectorRegistry, families: Families | None = None) -> None:
        self.registry = registry
        made = families or Exposed(registry)
        self._steps_of(made)
        self._batches_of(made)
        self._sessions_of(made)
        self._models_of(made)
        self._store_of(made)
        self._process_of(made)
        self.calls = CallMetrics(made)
        self.accuracy = AccuracyMetrics(made)
        self._expose_zeros()

    def _steps_of(self, made: Families) -> None:
        counter, gauge, histogram = made.counter, made.gauge, made.histogram
        self._steps = counter(
            "statewise_steps_total",
            "Steps of known sessions answered, by outcome: OK or the reason of the error.",
            *VERSION,
            "code",
        )
        self._timesteps = counter("statewise_timesteps_total", "Timesteps that sessions have consumed.", *VERSION)
        self._queue_seconds = histogram("statewise_step_queue_seconds", "From a step's arrival to its first engine run.", *VERSION)
        self._step_seconds = histogram("statewise_step_seconds", "From a step's arrival to its reply.", *VERSION)
        self.steps_rejected = counter(
            "statewise_steps_rejected_total", "Steps refused before they were pending, by reason; AHEAD is a gap.", "reason"
        )
        self.steps_repeated = counter("statewise_steps_repeated_total", "Steps sent again and answered with the retained reply.")
        self.steps_joined = counter("statewise_steps_joined_total", "Steps sent again while they were pending or running.")
        self.steps_pending = gauge("statewise_steps_pending", "Steps admitted and not yet answered.")
        self.steps_pending_limit = gauge("statewise_steps_pending_limit", "The most steps that may be pending.")
        self.steps_pending_bytes = gauge("statewise_steps_pending_bytes", "What the inputs of pending steps take.")
        self.steps = once(self._steps.labels)
        self.timesteps = once(self._timesteps.labels)
        self.queue_seconds = once(self._queue_seconds.labels)
        self.step_seconds = once(self._step_seconds.labels)

    def _batches_of(self, made: Families) -> None:
        histogram = made.histogram
        self._compute_seconds = histogram(
            "statewise_batch_compute_seconds", "An engine run, its wait for another included.", *VERSION
        )
        self._commit_seconds = histogram("statewise_batch_commit_seconds", "From an engine run's end to its answers.", *VERSION)
        self._batch_steps = histogram("statewise_batch_steps", "Steps of one engine run.", *VERSION, buckets=SIZES)
        self.batch_steps_limit = made.gauge("statewise_batch_steps_limit", "The most steps of one engine run.")
        self.engine_busy_seconds = made.counter("statewise_engine_busy_seconds_total", "Time in which an engine run was under way.")
        self.compute_seconds = once(self._compute_seconds.labels)
        self.commit_seconds = once(self._commit_seconds.labels)
        self.batch_steps = once(self._batch_steps.labels)

    def _sessions_of(self, made: Families) -> None:
        counter, gauge, histogram = made.counter, made.gauge, made.histogram
        self.sessions = gauge(
            "statewise_sessions",
            "Open sessions: active (stepped within ten seconds), idle, or spilled to the store.",
            "state",
        )
        self.sessions_free = gauge("statewise_sessions_free", "Sessions that could still be opened.")
        self.sessions_limit = gauge("statewise_sessions_limit", "The most sessions open at once.")
        self.sessions_opened = counter("statewise_sessions_opened_total", "Sessions opened.", *VERSION)
        self.sessions_ended = counter("statewise_sessions_ended_total", f"Sessions ended, by how: {', '.join(ENDS)}.", "how")
        self.sessions_refused = counter("statewise_sessions_refused_total", "Opens refused, by reason.", "reason")
        self.sessions_spilled = counter("statewise_sessions_spilled_total", "Sessions moved from the pool to the store.")
        self.sessions_restored = counter("statewise_sessions_restored_total", "Sessions brought back from the store or a snapshot.")
        self.sessions_resumed = counter("statewise_sessions_resumed_total", "Opens that found their session open.")
        self.session_age_seconds = histogram(
            "statewise_session_age_seconds", "How long a session was open, entered when it ends.", buckets=AGES
        )
        self.session_timesteps = histogram(
            "statewise_session_timesteps", "Timesteps that a session had consumed, entered when it ends.", buckets=LENGTHS
        )

    def _models_of(self, made: Families) -> None:
        gauge = made.gauge
        self.model_info = gauge(
            "statewise_model_info", "1 for every model version in memory.", *VERSION, "provider", "cell", "digest"
        )
        self.model_sessions = gauge("statewise_model_sessions", "Sessions pinned to a model version.", *VERSION)
        self.models_refused = gauge(
            "statewise_models_refused", "Model versions that new sessions should get and that cannot be loaded."
        )
        self.provider_fell_back = gauge(
            "statewise_provider_fell_back", "1 if a GPU is there and models run on the CPU though it was not asked for."
        )
        self.rows = gauge("statewise_rows", "Rows of a state pool; it is reserved at load and never grows.", "pool")
        self.rows_used = gauge("statewise_rows_used", "Rows of a state pool that are taken.", "pool")
        self.rows_bytes = gauge("statewise_rows_bytes", "What a state pool takes if every row is used.", "pool")

    def _store_of(self, made: Families) -> None:
        self._store_seconds = made.histogram("statewise_store_seconds", "One operation of the store.", "operation")
        self.store_errors = made.counter("statewise_store_errors_total", "Operations of the store that failed.", "operation")
        self.store_pending = made.gauge("statewise_store_pending", "Snapshots that wait for the store.")
        self.durability_lag_seconds = made.gauge(
            "statewise_durability_lag_seconds", "Age of the oldest committed step that should be in the store and is not."
        )
        self.durability_lag_timesteps = made.gauge(
            "statewise_durability_lag_timesteps", "The most timesteps by which a session is ahead of the store."
        )
        self.store_seconds = once(self._store_seconds.labels)

    def _process_of(self, made: Families) -> None:
        self.ready = made.gauge("statewise_ready", "1 while new sessions and steps are taken on.")
        self.loop_lag_seconds = made.histogram(
            "statewise_event_loop_lag_seconds", "By how much the event loop was late, looked at once a second."
        )

    def _expose_zeros(self) -> None:
        for how in ENDS:
            self.sessions_ended.labels(how)
        for state in STATES:
            self.sessions.labels(state)
        for reason in Reason:
            self.steps_rejected.labels(reason)
            self.sessions_refused.labels(reason)
        for operation in STORE_OPERATIONS:
            self.store_seconds(operation)
            self.store_errors.labels(operation)

    def know(self, model: str, version: int) -> None:
        """Exposes the zeros of a version that will be served."""
        named = (model, str(version))
        for code in CODES:
            self.steps(*named, code)
        for children in (self.timesteps, self.queue_seconds, self.step_seconds):
            children(*named)
        for children in (self.compute_seconds, self.commit_seconds, self.batch_steps):
            children(*named)
        self.sessions_opened.labels(*named)

    def forget(self, model: str, version: int) -> None:
        """Exposes nothing more of a version that there is no more."""
        named = (model, str(version))
        for metric in (self.sessions_opened, self._timesteps):
            metric.remove(*named)
        for histogram in (self._queue_seconds, self._step_seconds, self._compute_seconds, self._commit_seconds, self._batch_steps):
            histogram.remove(*named)
        for code in CODES:
            self._steps.remove(*named, code)
        self.accuracy.forget(named)
        for children in (self.steps, self.timesteps, self.queue_seconds, self.step_seconds):
            children.cache_clear()
        for children in (self.compute_seconds, self.commit_seconds, self.batch_steps):
            children.cache_clear()
