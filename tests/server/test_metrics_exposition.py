"""What a running server shows to Prometheus: Prometheus' own tool accepts it, and every metric says what it counts."""

import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from statewise.client import Client
from statewise.errors import InvalidInput

CONFIG = Path(__file__).parents[2] / "deploy" / "prometheus" / "prometheus.yml"


def scraped(server):
    with urllib.request.urlopen(server.metrics, timeout=30) as page:
        return page.read()


@pytest.fixture(scope="module")
def exposed(tiny_server):
    """The page of a server that has stepped, refused and ended sessions, so that every kind of metric has children."""
    with Client(tiny_server.address) as client:
        with client.open_session("label") as session:
            for _ in range(3):
                session.step(np.zeros((2, 2), np.float32))
            with pytest.raises(InvalidInput):
                session.step([[np.nan, np.nan]])
        with client.open_session("text") as session:
            session.step([0, 1, 2])
    return scraped(tiny_server)


def test_promtool_accepts_what_is_exposed(exposed, needs_tool):
    """The page can be read, and its names, types and help are as Prometheus wants them: not one remark."""
    done = subprocess.run([needs_tool("promtool"), "check", "metrics"], input=exposed, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_promtool_accepts_the_scrape_configuration(needs_tool):
    """The configuration that scrapes a server can be loaded."""
    done = subprocess.run([needs_tool("promtool"), "check", "config", CONFIG], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_metric_says_what_it_counts(exposed):
    """No metric of ours is without help, and each has been counted by then."""
    families = {family.name: family for family in text_string_to_metric_families(exposed.decode())}
    ours = {name: family for name, family in families.items() if name.startswith("statewise_") and not name.endswith("_created")}
    assert all(family.documentation.endswith(".") and family.samples for family in ours.values())
    assert {family.type for family in ours.values()} == {"counter", "gauge", "histogram"}


def test_a_metric_never_loses_count(tiny_server, exposed):
    """Between two scrapes of one server no counter goes back."""

    def counters(page):
        families = text_string_to_metric_families(page.decode())
        return {(s.name, *sorted(s.labels.items())): s.value for f in families if f.type == "counter" for s in f.samples}

    before, after = counters(exposed), counters(scraped(tiny_server))
    assert [name for name, value in before.items() if not after[name] >= value] == []
