"""docs/from-triton.md says what the code does."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from builders.triton import with_tritonclient
from statewise.metrics import ServerMetrics
from statewise.opening import RETAINED_REPLIES
from statewise.rpc.inference import farewells, parameters
from statewise.rpc.inference.sequences import IN_FLIGHT

PAGE = (Path(__file__).parents[2] / "docs" / "from-triton.md").read_text(encoding="utf-8")


def section(title):
    """Returns the text below a heading of the page, up to the next."""
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def test_the_example_runs(server):
    """What the page shows first works as it stands, but for the address."""
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    quiet = "say, print = print, lambda *_: None\n"
    program = quiet + example.replace('"127.0.0.1:8001"', "address") + "say(json.dumps(reply.get_response().model_name))"
    assert with_tritonclient(program, server.address) == "label"


def test_every_parameter_is_on_the_page():
    """With the types that it takes."""
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", section("Parameters"), re.MULTILINE)
    told = {name.strip("`"): types for names, types in rows for name in names.split(", ")}
    assert told.keys() == parameters._TYPES.keys()
    for name, takes in parameters._TYPES.items():
        assert {each.removesuffix("_param") for each in takes} == set(re.findall(r"bool|uint64|int64|string", told[name]))


def test_every_metric_of_ours_is_exposed():
    """No name in the table has gone."""
    registry = CollectorRegistry()
    ServerMetrics(registry)
    exposed = set(re.findall(r"^# HELP (\S+)", generate_latest(registry).decode(), re.MULTILINE))
    named = {name.removesuffix("_count") for name in re.findall(r"`(statewise_\w+)", section("Metrics"))}
    assert named
    assert named <= exposed


def test_the_numbers_are_the_codes():
    """How many requests are in flight, and how many replies and last replies are kept."""
    assert f"up to {IN_FLIGHT} at a time" in PAGE
    assert f"at most {RETAINED_REPLIES} requests" in PAGE
    assert f"last replies of {farewells.MOST:,} sequences are\n  kept, {farewells.MOST_BYTES >> 20} MiB" in PAGE
    assert f"at most {parameters.LONGEST_STRING_ID} bytes" in PAGE
