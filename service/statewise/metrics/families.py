"""The kinds of which metrics are made, in a registry or in none. Whoever declares one says what it counts and by which labels.

`Exposed` makes them for Prometheus. `Silent` makes some that count nothing, for whoever measures what counting costs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from operator import add
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

SECONDS = (50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Described:
    """A metric as the page about them tells of it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    documentation: str


class Families(Protocol):
    """Makes metrics."""

    def counter(self, name: str, documentation: str, *labels: str) -> Counter:
        """Returns a counter."""
        ...

    def gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        """Returns a gauge."""
        ...

    def histogram(self, name: str, documentation: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
        """Returns a histogram."""
        ...


class Sum:
    """One child of a counter: a number, without the lock of prometheus_client's own. The event loop alone changes it."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Adds."""
        self.value += amount


class Counter(Collector):
    """A counter that the event loop changes, and any thread reads."""

    def __init__(self, name: str, documentation: str, labels: tuple[str, ...], registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._only = Sum()
        self._children: dict[tuple[str, ...], Sum] = {} if labels else {(): self._only}
        self.inc = self._only.inc
        registry.register(self)

    def labels(self, *values: str) -> Sum:
        """Returns the child of these labels."""
        return self._children.setdefault(values, Sum())

    def remove(self, *values: str) -> None:
        """Exposes a child no more."""
        self._children.pop(values, None)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yields the family that is exposed."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, child in list(self._children.items()):
            family.add_metric(values, child.value)
        yield family


class Counted:
    """One child of a histogram. The event loop alone changes it."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Enters a value `count` times."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    def enter(self, counts: Sequence[int], total: float) -> None:
        """Adds to each bucket, and to the sum: many values that were counted elsewhere."""
        self.counts = list(map(add, self.counts, counts))
        self.sum += total


class Histogram(Collector):
    """A histogram that takes a value many times at once: a batch's steps cost one update. prometheus_client's own takes one."""

    def __init__(
        self, name: str, documentation: str, labels: tuple[str, ...], bounds: tuple[float, ...], registry: CollectorRegistry
    ) -> None:
        self.bounds = bounds
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._children: dict[tuple[str, ...], Counted] = {} if labels else {(): Counted(bounds)}
        registry.register(self)

    def labels(self, *values: str) -> Counted:
        """Returns the child of these labels."""
        return self._children.setdefault(values, Counted(self.bounds))

    def observe(self, value: float, count: int = 1) -> None:
        """Enters a value `count` times in the only child of a histogram without labels."""
        self._children[()].observe(value, count)

    def remove(self, *values: str) -> None:
        """Exposes a child no more."""
        self._children.pop(values, None)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yields the family that is exposed."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        bounds = [*map(floatToGoString, self.bounds), "+Inf"]
        for values, child in list(self._children.items()):
            family.add_metric(values, list(zip(bounds, accumulate(child.counts), strict=True)), child.sum)
        yield family


class Exposed:
    """Metrics in a registry. What asks for label children through `once` makes each once: to make one doubles an update's cost.

    Attributes:
        described: all that were made, in the order in which they were.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.described: list[Described] = []
        self._registry = registry

    def counter(self, name: str, documentation: str, *labels: str) -> Counter:
        """Returns a counter."""
        self.described.append(Described(name, "counter", labels, documentation))
        return Counter(name, documentation, labels, self._registry)

    def gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        """Returns a gauge."""
        self.described.append(Described(name, "gauge", labels, documentation))
        return Gauge(name, documentation, labels, registry=self._registry)

    def histogram(self, name: str, documentation: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
        """Returns a histogram."""
        self.described.append(Described(name, "histogram", labels, documentation))
        return Histogram(name, documentation, labels, buckets, self._registry)


class Silent:
    """Metrics that count nothing and are exposed nowhere."""

    bounds: tuple[float, ...] = ()

    def counter(self, *_: Any, **__: Any) -> Any:
        """Returns nothing that counts."""
        return self

    gauge = histogram = labels = counter

    def inc(self, *_: Any) -> None:
        """Does nothing."""

    observe = enter = set = remove = set_function = inc


def once(labels: Callable[..., Any]) -> Any:
    """Returns `labels` with its children kept."""
    return cache(labels)
