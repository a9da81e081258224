"""The model versions in memory: which are ready, which one a new session gets, and when one leaves.

The repository is the truth. A version is loaded when a new session would get it or one asks for it by number, in a thread of its
own, while the others go on being served. Versions whose states look the same share a pool of rows. A version that new sessions no
longer get is *retiring*: its sessions stay on it and are told, and it leaves memory with the last of them.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from statewise.accuracy import Accuracy
from statewise.catalog import Loaded, LoadError, load
from statewise.config import Limits
from statewise.errors import Reason, error
from statewise.metrics import ServerMetrics
from statewise.pool import StatePool
from statewise.repository import Repository, RepositoryError, Serving, Stamp
from statewise.runtime import EngineError, Provider
from statewise.scheduler import CUT, Bounds
from statewise.sessions import RESERVED_ROWS, Rows, Sessions
from statewise.spec import ModelSpec, StateSpec
from statewise.statistics import Statistics

log = structlog.get_logger()
Key = tuple[str, int]
Loader = Callable[[str, int, Path, int, Provider, int], Loaded]


@dataclass(slots=True, eq=False)
class Pooled:
    """A pool of states, and who holds which of its rows."""

    number: int
    states: StatePool
    rows: Rows


@dataclass(slots=True, eq=False)
class Served:
    """A model version that sessions run on. `Models` alone changes `retiring`.

    Attributes:
        number: by which the session table knows it.
        retiring: whether new sessions get another version.
        labels: of its metrics.
        spec_digest: SHA-256 of its spec as JSON.
        bounds: what one run of it takes.
        statistics: what it has done.
        accuracy: what judges its forecasts and inputs; `None` where nothing can be told of them.
    """

    number: int
    loaded: Loaded
    pool: Pooled
    retiring: bool = False
    labels: tuple[str, str] = field(init=False)
    spec_digest: str = field(init=False)
    bounds: Bounds = field(init=False)
    statistics: Statistics = field(default_factory=Statistics)
    accuracy: Accuracy | None = None

    def __post_init__(self) -> None:
        self.labels = (self.name, str(self.version))
        self.spec_digest = hashlib.sha256(self.spec.to_json().encode()).hexdigest()
        self.bounds = Bounds(self.spec.batch, min(self.spec.timesteps or CUT, CUT), self.spec.lengths is not None)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.loaded.name

    @property
    def version(self) -> int:
        """The version."""
        return self.loaded.version

    @property
    def spec(self) -> ModelSpec:
        """What it takes, returns and remembers."""
        return self.loaded.spec


class Models:
    """The versions in memory, of one repository. Its mutable state is changed on the event loop alone."""

    def __init__(
        self,
        repository: Repository,
        sessions: Sessions,
        limits: Limits,
        provider: Provider,
        threads: int,
        metrics: ServerMetrics,
        loader: Loader = load,
    ) -> None:
        self.repository = repository
        self.ready: dict[Key, Served] = {}
        self.refused: dict[Key, str] = {}
        self.withheld: set[str] = set()  # models that new sessions do not get, whatever the repository says
        self._of_number: dict[int, Served] = {}
        self._sessions = sessions
        self._limits = limits
        self._provider: Provider = provider
        self._threads = threads
        self._metrics = metrics
        self._pools: dict[tuple[StateSpec, ...], Pooled] = {}
        self._serving: dict[str, tuple[Stamp, Serving | RepositoryError]] = {}
        self._last_good: dict[str, Served] = {}
        self._load = loader
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._loading = asyncio.Lock()
        self._numbers = 0
        self._counted: set[Key] = set()  # versions that the metrics tell of
        metrics.models_refused.set_function(lambda: len(self.refused))

    def __getitem__(self, number: int) -> Served:
        return self._of_number[number]

    async def refresh(self) -> None:
        """Loads what new sessions get, marks what they no longer get, and lets go of what nobody uses."""
        wanted: set[Key] = set()
        models = self.repository.models()
        self._forget_all_but(models)
        for model in models:
            if model in self.withheld:
                continue
            try:
                serving = self.serving(model)
            except RepositoryError as problem:
                self._refuse((model, 0), str(problem))
                continue
            for version in {serving.default, serving.canary} - {None}:
                wanted.add((model, version))  # type: ignore[arg-type]
                await self._try((model, version))  # type: ignore[arg-type]
        wanted |= {(served.name, served.version) for served in self._last_good.values() if self._stands_in(served)}
        for key, served in list(self.ready.items()):
            served.retiring = key not in wanted
            if served.retiring and not self._sessions.count(served.number):
                self._unload(key, served)
        for key in {key for key in self._counted - self.ready.keys() if not self._is_there(key)}:
            self._metrics.forget(*key)
            self._counted.discard(key)

    async def find(self, model: str, version: int, session_id: str) -> Served:
        """Returns the version that a new session gets: `version`, or what the repository says if that is 0.

        Raises:
            ModelUnknown: there is no such model or version.
            EngineFailed: it cannot be loaded.
        """
        if model in self.withheld:
            raise error(Reason.MODEL_UNKNOWN, f"model {model!r} is withheld: load it first")
        try:
            number = version or self.serving(model).choose(session_id)
            if served := self.ready.get((model, number)):
                return served
            self.repository.path(model, number)
        except RepositoryError as problem:
            raise error(Reason.MODEL_UNKNOWN, str(problem)) from problem
        await self._try((model, number))
        served = self.ready.get((model, number)) or (None if version else self._last_good.get(model))
        if served is None:
            raise error(Reason.ENGINE_FAILED, f"model {model!r} cannot be loaded: {self.refused[model, number]}")
        return served

    def is_ready(self, model: str, version: int = 0) -> bool:
        """Whether a new session of a model would get a version that is in memory."""
        try:
            number = version or self.serving(model).default
        except RepositoryError:
            return False
        there = (model, number) in self.ready or (not version and model in self._last_good)
        return there and model not in self.withheld

    async def load(self, model: str) -> None:
        """Gives new sessions a model again, and tries again what could not be loaded; raises `ModelUnknown` or `EngineFailed`."""
        self.withheld.discard(model)
        self.refused = {key: why for key, why in self.refused.items() if key[0] != model}
        await self.find(model, 0, "")

    async def withhold(self, model: str) -> None:
        """Gives new sessions a model no more; it leaves memory with its last session. Raises `ModelUnknown`."""
        try:
            self.repository.versions(model)
        except RepositoryError as problem:
            raise error(Reason.MODEL_UNKNOWN, str(problem)) from problem
        self.withheld.add(model)
        await self.refresh()

    def serving(self, model: str) -> Serving:
        """Returns what new sessions get; a file is read again only when it has changed. Raises `RepositoryError`."""
        stamp = self.repository.stamp(model)
        known = self._serving.get(model)
        if known is None or known[0] != stamp:
            known = stamp, self._read(model)
            if any(stamp[0]):  # names of no model come from clients, and there is no end to them
                self.refused = {key: why for key, why in self.refused.items() if key[0] != model}
                self._serving[model] = known
        if isinstance(known[1], RepositoryError):
            raise known[1].with_traceback(None)
        return known[1]

    def _read(self, model: str) -> Serving | RepositoryError:
        try:
            return self.repository.serving(model)
        except RepositoryError as problem:
            return problem

    def shutdown(self) -> None:
        """Ends the loader."""
        self._loader.shutdown(wait=False, cancel_futures=True)

    async def _try(self, key: Key) -> None:
        """Loads a version unless it is ready, or is known not to be loadable; notes why it cannot be."""
        async with self._loading:
            if key in self.ready or key in self.refused:
                return
            try:
                work = functools.partial(
                    self._load, *key, self.repository.path(*key), self._limits.batch, self._provider, self._threads
                )
                self._adopt(await asyncio.get_running_loop().run_in_executor(self._loader, work))
            except (LoadError, RepositoryError) as problem:
                self._refuse(key, str(problem))
            except Exception as problem:  # no memory for its states, say; the other models are served on
                log.exception("a model could not be loaded", model=key[0], version=key[1])
                self._refuse(key, f"{type(problem).__name__}: {problem}")

    def _adopt(self, loaded: Loaded) -> None:
        default = self.serving(loaded.name).default
        pool = self._pool(loaded)
        self._numbers += 1
        served = Served(self._numbers, loaded, pool)
        accuracy = self._metrics.accuracy
        served.accuracy = Accuracy.of(loaded.spec, accuracy, served.labels, self._sessions.capacity, pool.states.read)
        self._sessions.replies.reserve(served.number, loaded.spec.outputs)
        self.ready[loaded.name, loaded.version] = served
        self._of_number[served.number] = served
        self._counted.add((loaded.name, loaded.version))
        self._metrics.know(loaded.name, loaded.version)
        if default == loaded.version:
            self._last_good[loaded.name] = served
        self._metrics.model_info.labels(*_info(served)).set(1)
        self._metrics.model_sessions.labels(*served.labels).set_function(lambda: self._sessions.count(served.number))
        log.info("model ready", model=loaded.name, version=loaded.version, provider=loaded.provider)

    def _pool(self, loaded: Loaded) -> Pooled:
        """Returns the pool of states like these; raises `LoadError` if there is no memory for another one."""
        states = loaded.spec.states
        # A session holds its committed row and, while it runs a long step, that of its last cut. Two runs may be under way, and as
        # many rows again held aside, pinned or being written; and what waits for the store is held as well.
        count = RESERVED_ROWS + 2 * self._limits.sessions + 4 * self._limits.batch + self._limits.store_line
        new = 0 if states in self._pools else StatePool.bytes_of(states) * count
        used = sum(pool.states.bytes for pool in self._pools.values()) + sum(s.loaded.parameters_bytes for s in self.ready.values())
        needed, budget = used + new + loaded.parameters_bytes, self._limits.memory_bytes
        if budget and needed > budget:
            told = f"{needed / 2**20:,.0f} MiB would be used by models and their states, of {budget / 2**20:,.0f} MiB"
            raise LoadError(f"version {loaded.version} of {loaded.name!r} does not fit: {told}")
        if states not in self._pools:
            try:
                reserved = StatePool(states, count, self._provider)
            except EngineError as problem:
                raise LoadError(f"version {loaded.version} of {loaded.name!r} does not fit: {problem}") from problem
            rows = Rows(count)
            pool = Pooled(self._sessions.add_pool(rows), reserved, rows)
            self._metrics.rows_used.labels(str(pool.number)).set_function(lambda: rows.used)
            self._metrics.rows.labels(str(pool.number)).set(rows.count)
            self._metrics.rows_bytes.labels(str(pool.number)).set(pool.states.bytes)
            self._pools[states] = pool
        return self._pools[states]

    def _stands_in(self, served: Served) -> bool:
        """Whether new sessions get this version because the one that the repository names cannot be loaded."""
        if served.name in self.withheld:
            return False
        try:
            return (served.name, self.serving(served.name).default) in self.refused
        except RepositoryError:
            return served.name in self.repository.models()

    def _is_there(self, key: Key) -> bool:
        try:
            self.repository.path(*key)
        except RepositoryError:
            return False
        return True

    def _forget_all_but(self, models: list[str]) -> None:
        """Lets go of what is known of models that the repository has no more."""
        self._serving = {model: known for model, known in self._serving.items() if model in models}
        self.refused = {key: why for key, why in self.refused.items() if key[0] in models}
        self.withheld &= set(models)

    def _refuse(self, key: Key, why: str) -> None:
        if self.refused.get(key) != why:
            log.error("model not served", model=key[0], version=key[1] or None, why=why)
        self.refused[key] = why

    def _unload(self, key: Key, served: Served) -> None:
        del self.ready[key], self._of_number[served.number]
        self.refused.clear()  # what did not fit may fit now
        self._sessions.replies.release(served.number)
        if self._last_good.get(served.name) is served:
            del self._last_good[served.name]
        if not any(other.pool is served.pool for other in self.ready.values()):
            del self._pools[served.spec.states]
            self._sessions.remove_pool(served.pool.number)
            for gauge in (self._metrics.rows_used, self._metrics.rows, self._metrics.rows_bytes):
                gauge.remove(str(served.pool.number))
        self._metrics.model_info.remove(*_info(served))
        self._metrics.model_sessions.remove(*served.labels)
        log.info("model unloaded", model=served.name, version=served.version)


def _info(served: Served) -> tuple[str, ...]:
    """Returns the labels by which the metrics tell what a version is."""
    return (*served.labels, served.loaded.provider, str(served.spec.about.get("cell", "")), served.loaded.digest)
