"""What operators get: rules that fire when they should, a runbook for each, and a board that asks for metrics that there are."""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from builders.served import start
from builders.tiny import fill
from deploy.observability import board, rules
from deploy.observability.alerts import ALERTS
from statewise.client import Client

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
NOT_OURS = {"up"}
"""Prometheus makes it itself."""
WORDS = {"sum", "by", "rate", "clamp_min", "histogram_quantile", "max", "count", "deriv", "increase", "scalar", "and", "or"}


@pytest.fixture(scope="module")
def exposed(tmp_path_factory):
    """Name → label names of every sample that a server shows that has stepped once."""
    root = tmp_path_factory.mktemp("tiny")
    fill(root)
    server = start(root)
    try:
        with Client(server.address) as client, client.open_session("label") as session:
            session.step(np.zeros((2, 2), np.float32))
        with urllib.request.urlopen(server.metrics, timeout=30) as page:
            families = text_string_to_metric_families(page.read().decode())
            return {sample.name: set(sample.labels) for family in families for sample in family.samples}
    finally:
        server.stop()


def asked():
    return [*board.expressions(), *rules.recorded().values(), *(each for alert in ALERTS for each in alert.measures)]


def metrics_of(expression):
    """Metric → the labels that the expression wants of it."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    grouped = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", bare) for label in labels.split(",")}
    names = re.findall(r"(?<![\w:$])([a-z_][a-z0-9_]*)(?![\w(])(\{[^}]*\})?", re.sub(r"by \([^)]*\)|\[[^]]*\]", "", bare))
    return {name: grouped | set(re.findall(r"(\w+)\s*[=!]~?", matched)) for name, matched in names if name not in WORDS | NOT_OURS}


def test_committed_files_are_what_the_code_makes():
    """Board, rules and page of metrics are never edited by hand."""
    done = subprocess.run([sys.executable, "-m", "deploy.observability", "check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_asked_for_is_exposed(exposed):
    """Every metric and label of board, recording rules and alerts has samples from the first scrape on."""
    wrong = {}
    for expression in asked():
        if expression.startswith("statewise:"):
            assert expression in rules.recorded()
            continue
        found = metrics_of(expression)
        assert found or "up{" in expression, expression
        wrong |= {
            name: labels
            for name, labels in found.items()
            if name not in exposed or not labels - {"instance", "le"} <= exposed[name]
        }
    assert wrong == {}


def test_a_metric_that_there_is_not_would_be_seen(exposed):
    """The check above reads names and labels out of expressions, and finds those that are wrong."""
    assert metrics_of('sum by (model) (rate(no_such_total{code=~"A|B"}[5m])) / max(statewise_ready)') == {
        "no_such_total": {"model", "code"},
        "statewise_ready": {"model"},
    }
    assert "no_such_total" not in exposed


def test_prometheus_takes_the_rules(needs_tool):
    """Promtool finds nothing to say about them."""
    done = subprocess.run([needs_tool("promtool"), "check", "rules", RULES], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_each_alert_fires_and_stays_quiet(needs_tool):
    """Promtool runs each alert over series with which it must fire and series with which it must not."""
    done = subprocess.run(
        [needs_tool("promtool"), "test", "rules", RULES.with_name("rules-test.yml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cases = [case["name"] for case in yaml.safe_load(rules.tests())["tests"]]
    assert sorted(cases) == sorted(f"{alert.name} {does}" for alert in ALERTS for does in ("fires", "stays quiet"))


def test_the_resource_holds_the_same_rules():
    """The PrometheusRule and the plain file cannot differ."""
    resource = yaml.safe_load(RULES.with_name("prometheusrule.yaml").read_text())
    assert resource["kind"] == "PrometheusRule"
    assert resource["spec"] == yaml.safe_load(RULES.read_text())


def test_each_alert_has_its_section_of_the_runbook():
    """The anchor that an alert names is a heading, and no section is of an alert that there is not."""
    page = (ROOT / rules.RUNBOOK).read_text()
    sections = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert sorted(sections) == sorted(alert.name for alert in ALERTS)
    headings = {f"{rules.RUNBOOK}#{section.lower()}" for section in sections}
    told = [rule["annotations"]["runbook"] for group in rules.groups()["groups"] for rule in group["rules"] if "alert" in rule]
    assert set(told) == headings
    for anchor in re.findall(r"\]\(#([^)]*)\)", page):
        assert f"{rules.RUNBOOK}#{anchor}" in headings


def test_the_board_can_be_imported_anywhere():
    """Its uid is stable, its data source a variable, its panels have ids and do not overlap."""
    made = json.loads((ROOT / "deploy" / "grafana" / "statewise.json").read_text())
    assert made["uid"] == board.UID
    assert [(each["name"], each["type"]) for each in made["templating"]["list"]] == [("datasource", "datasource")]
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])
    graphs = [panel for panel in made["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in graphs} == {"${datasource}"}
    assert [row["title"] for row in made["panels"] if row["type"] == "row"] == list(board.ROWS)
    cells = [
        (x, y)
        for panel in graphs
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
