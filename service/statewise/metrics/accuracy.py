"""How well forecasts come true, and how unlike training the inputs are: of the versions of which that can be told."""

from __future__ import annotations

from statewise.metrics.families import Families, once

ERRORS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_VERSION = ("model", "version")


class AccuracyMetrics:
    """Errors in standard deviations of the target in training; a child is exposed, as zero, when it is first asked for."""

    def __init__(self, families: Families) -> None:
        counter = families.counter
        self._errors = families.histogram(
            "statewise_forecast_error",
            "How far forecasts were from the value that came, in standard deviations of the target in training, each at most 100.",
            *_VERSION,
            buckets=ERRORS,
        )
        self._persistence = counter(
            "statewise_forecast_persistence_error_total",
            "What the sum of statewise_forecast_error would be, had each forecast been the value of before.",
            *_VERSION,
        )
        self._validation = families.gauge(
            "statewise_forecast_validation_error",
            "The mean of statewise_forecast_error that training found on its validation part.",
            *_VERSION,
        )
        self._inputs = counter(
            "statewise_input_values_total", "Values of inputs whose range in training the model's file tells.", *_VERSION
        )
        self._outside = counter("statewise_input_values_outside_total", "Those of them outside that range.", *_VERSION)
        self.errors = once(self._errors.labels)
        self.persistence = once(self._persistence.labels)
        self.inputs = once(self._inputs.labels)
        self.outside = once(self._outside.labels)

    def validated(self, labels: tuple[str, str], error: float) -> None:
        """Exposes the error of a version in validation."""
        self._validation.labels(*labels).set(error)

    def forget(self, labels: tuple[str, str]) -> None:
        """Exposes nothing more of a version that there is no more."""
        for metric in (self._errors, self._persistence, self._inputs, self._outside):
            metric.remove(*labels)
        self._validation.remove(*labels)
        for children in (self.errors, self.persistence, self.inputs, self.outside):
            children.cache_clear()
