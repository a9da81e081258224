"""The client in examples/node, as its README line starts it: another language needs nothing but the protos."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import trustme

from builders.authority import issue
from builders.summing import serving_apart
from statewise.rpc.certificates import server_credentials
from statewise.rpc.keys import BearerKeys

HERE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory, needs_tool):
    """A copy of the example beside a copy of the protos, with its dependencies, in the versions that it names."""
    needs_tool("node")
    root = tmp_path_factory.mktemp("node")
    shutil.copytree(HERE / "protos", root / "protos")
    shutil.copytree(HERE / "examples" / "node", root / "examples" / "node", ignore=shutil.ignore_patterns("node_modules"))
    command = [needs_tool("npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(command, cwd=root / "examples" / "node", check=True, capture_output=True, timeout=100)
    return root / "examples" / "node"


def run(folder, address, model, timesteps, **environment):
    lines = "".join(json.dumps(timestep) + "\n" for timestep in timesteps)
    command = ["node", "client.mjs", address, model]
    return subprocess.run(
        command, cwd=folder, input=lines, capture_output=True, text=True, timeout=60, env=os.environ | environment
    )


def test_it_streams_and_its_session_remembers(installed):
    """Each line is answered with the sum so far; integers of 64 bits arrive exactly; the session is closed at the end."""
    with serving_apart() as apart:
        timesteps = [{"x": [number, 1], "time": 2**53 - number} for number in range(20)]
        done = run(installed, apart.address, "clocked", timesteps)
        assert (done.returncode, done.stderr) == (0, "")
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert [answer["total"] for answer in answers] == [[sum(range(number + 1)), number + 1] for number in range(20)]
        assert [answer["clock"] for answer in answers] == [[2**53 - number] for number in range(20)]
        assert apart.serving.summing.sums() == {"sessions": 0, "steps": 0, "rows": 0}


def test_what_the_server_refuses_is_told_in_one_line(installed):
    """A wrong number of features is found by the client, an unknown model by the server."""
    with serving_apart() as apart:
        done = run(installed, apart.address, "sum", [{"x": [1, 2, 3]}])
        assert (done.returncode, done.stderr) == (1, "error: x takes 2 numbers a timestep, not 3\n")
        done = run(installed, apart.address, "nope", [])
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith("error: no model 'nope'")


def test_it_speaks_tls_and_shows_a_key(installed, tmp_path):
    """Told the authority and the key by the environment, it is served; without the key it is told what is missing."""
    pair, keys = issue(trustme.CA(), tmp_path), tmp_path / "keys"
    keys.write_text("a-key-of-the-tests-1234\n")
    told = {"STATEWISE_TLS_CA": str(pair.authority), "STATEWISE_BEARER_KEY_FILE": str(keys)}
    credentials = server_credentials(pair.certificate, pair.key, None)
    with serving_apart(interceptors=[BearerKeys(keys)], credentials=credentials) as apart:
        port = apart.address.rpartition(":")[2]
        done = run(installed, f"localhost:{port}", "sum", [{"x": [1, 2]}], **told)
        assert (done.returncode, done.stdout) == (0, '{"total":[1,2]}\n'), done.stderr
        del told["STATEWISE_BEARER_KEY_FILE"]
        done = run(installed, f"localhost:{port}", "sum", [{"x": [1, 2]}], **told)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "authorization" in done.stderr
