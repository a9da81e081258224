"""Debian's Prometheus scrapes a server under a mixed load, and answers every expression of the board and of the alerts."""

import json
import math
import re
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
import yaml

from builders.served import start
from builders.tiny import fill
from deploy.observability import board, rules
from deploy.observability.alerts import ALERTS
from statewise.client import Client
from statewise.errors import InvalidInput, ModelUnknown

SCRAPES = 4
SEEN = "sum(count_over_time(statewise_ready[5m])) or vector(0)"
INTERVAL = "1s"
pytestmark = pytest.mark.prometheus


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, needs_tool):
    """The address of a Prometheus that has scraped a server while it was used in every way, and the time of the last scrape."""
    root = tmp_path_factory.mktemp("models")
    fill(root)
    server = start(root)
    folder = tmp_path_factory.mktemp("prometheus")
    process, address, log = started(needs_tool("prometheus"), folder, server.metrics)
    done = threading.Event()
    users = threading.Thread(target=use, args=(server.address, done))
    users.start()
    try:
        while not value(address, "statewise:step_errors:rate3d") or float(value(address, SEEN)[0]) < SCRAPES:
            users.join(0.2)
            assert process.poll() is None
            assert users.is_alive()
        (scraped,) = value(address, "max(timestamp(statewise_ready))")  # a later scrape may fail where the machine is busy
        yield address, float(scraped)
    finally:
        done.set()
        users.join()
        process.terminate()
        process.wait(30)
        log.join()
        process.stderr.close()
        server.stop()


def started(program, folder, metrics):
    """Starts it on a free port, with the rules of the repository, evaluated as often as it scrapes; returns once it answers."""
    made = rules.groups()
    for group in made["groups"]:
        group["interval"] = INTERVAL
    (folder / "rules.yml").write_text(yaml.safe_dump(made))
    target = urllib.parse.urlsplit(metrics).netloc
    scrape = {
        "job_name": "statewise",
        "scrape_interval": INTERVAL,
        "scrape_timeout": INTERVAL,
        "static_configs": [{"targets": [target]}],
    }
    config = {"rule_files": ["rules.yml"], "scrape_configs": [scrape]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    options = ("--config.file", str(folder / "prometheus.yml"), "--storage.tsdb.path", str(folder / "data"))
    command = [program, *options, "--web.listen-address", "127.0.0.1:0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    address = ""
    for line in process.stderr:
        if found := re.search(r'"Listening on" address=(\S+)', line):
            address = found[1]
        if "Server is ready" in line:
            log = threading.Thread(target=process.stderr.read)
            log.start()
            return process, address, log
    raise AssertionError("Prometheus ended before it was ready")


def use(address, done):
    """Single steps and frames, repeats, refusals, sessions that come and go, until told to stop."""
    with Client(address) as client, client.open_session("demand") as kept:
        frame = client.frame([client.open_session("label") for _ in range(8)])
        now = 0
        while not done.is_set():
            kept.step([[100.0 + now % 7]], time=[now])
            frame.step(np.zeros((8, 3, 2), np.float32))
            with client.open_session("text") as short:
                short.step([0, 1, 2])
                with pytest.raises(InvalidInput):
                    short.step([9])
            with pytest.raises(ModelUnknown):
                client.open_session("no such model")
            now += 1
            done.wait(0.02)


def value(address, expression, at=None):
    """Returns the values of an instant query."""
    query = urllib.parse.urlencode({"query": expression, "time": at or time.time()})
    with urllib.request.urlopen(f"http://{address}/api/v1/query?{query}", timeout=30) as answer:
        found = json.load(answer)["data"]
    return [found["result"][1]] if found["resultType"] == "scalar" else [each["value"][1] for each in found["result"]]


def numbers(prometheus, expression):
    """Returns what an expression was at the time of the last scrape."""
    address, at = prometheus
    return [float(each) for each in value(address, expression.replace("$__rate_interval", "1m"), at)]


@pytest.mark.parametrize("expression", dict.fromkeys(board.expressions()))
def test_every_panel_has_data(prometheus, expression):
    """Each query of the board returns numbers, or a zero that is meant; none returns nothing."""
    assert any(math.isfinite(each) for each in numbers(prometheus, expression))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_alert_measures_something(prometheus, alert):
    """What an alert compares has a value before it fires, so silence means that all is well."""
    for expression in alert.measures:
        assert any(math.isfinite(each) for each in numbers(prometheus, expression)), expression


def test_traffic_is_seen(prometheus):
    """The load of this test is in the numbers: steps of each model, and no fault of the server's."""
    for model in ("demand", "label", "text"):
        (steps,) = numbers(prometheus, f'sum(statewise_steps_total{{model="{model}",code="OK"}})')
        assert steps > 0
    assert numbers(prometheus, 'sum(statewise_steps_total{model="text",code="BAD_FIELD"})')[0] > 0
    assert numbers(prometheus, 'sum(statewise_sessions_refused_total{reason="MODEL_UNKNOWN"})')[0] > 0
    assert numbers(prometheus, "statewise:step_errors:rate5m") == [0.0]


def test_rules_are_evaluated_without_an_error(prometheus):
    """Prometheus reports every rule of the repository as healthy."""
    with urllib.request.urlopen(f"http://{prometheus[0]}/api/v1/rules", timeout=30) as answer:
        found = [rule for group in json.load(answer)["data"]["groups"] for rule in group["rules"]]
    assert len(found) == len(ALERTS) + len(rules.recorded())
    assert {rule["health"] for rule in found} <= {"ok", "unknown"}
