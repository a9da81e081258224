"""Alerts and recording rules as Prometheus takes them: a file, the same as a PrometheusRule, and their test for promtool."""

from __future__ import annotations

from typing import Any

import yaml

from deploy.observability.alerts import ALERTS, Alert, Series
from deploy.observability.expressions import WINDOWS, slow_steps, step_errors

HEADER = "# Made by `make board` from deploy/observability; change it there.\n"
RUNBOOK = "docs/runbook.md"


def anchor(name: str) -> str:
    """Returns where the runbook tells of an alert."""
    return f"{RUNBOOK}#{name.lower()}"


def recorded() -> dict[str, str]:
    """Returns the recording rules: name → expression."""
    rules = {f"statewise:step_errors:rate{window}": step_errors(window) for window in WINDOWS}
    return rules | {f"statewise:slow_steps:rate{window}": slow_steps(window) for window in WINDOWS}


def groups() -> dict[str, Any]:
    """Returns all rules, in Prometheus' form."""
    records = [{"record": name, "expr": expression} for name, expression in recorded().items()]
    return {
        "groups": [
            {"name": "statewise.recording", "interval": "30s", "rules": records},
            {"name": "statewise.alerts", "interval": "30s", "rules": [_alerting(alert) for alert in ALERTS]},
        ]
    }


def plain() -> str:
    """Returns the file that Prometheus' `rule_files` names."""
    return _dumped(groups())


def resource() -> str:
    """Returns the resource that the Prometheus operator takes."""
    metadata = {"name": "statewise", "labels": {"app.kubernetes.io/name": "statewise"}}
    return _dumped({"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": metadata, "spec": groups()})


def tests() -> str:
    """Returns the test that `promtool test rules` runs: each alert fires, and stays quiet."""
    cases = [case for alert in ALERTS for case in (_case(alert, alert.fires, fires=True), _case(alert, alert.quiet, fires=False))]
    return _dumped({"rule_files": ["rules.yml"], "evaluation_interval": "5m", "tests": cases})


def _alerting(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": f"{alert.minutes}m",
        "labels": {"severity": alert.severity},
        "annotations": _annotations(alert),
    }


def _annotations(alert: Alert) -> dict[str, str]:
    return {"summary": alert.summary, "runbook": anchor(alert.name)}


def _case(alert: Alert, series: Series, *, fires: bool) -> dict[str, Any]:
    expected = {"exp_labels": {"severity": alert.severity, **dict(alert.labels)}, "exp_annotations": _annotations(alert)}
    return {
        "name": f"{alert.name} {'fires' if fires else 'stays quiet'}",
        "interval": f"{alert.every_minutes}m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": f"{alert.at_minute}m", "alertname": alert.name, "exp_alerts": [expected] if fires else []}
        ],
    }


def _dumped(content: dict[str, Any]) -> str:
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=132, allow_unicode=True)
