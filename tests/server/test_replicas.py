"""Several servers behind one router take a store that they share, or the word that sessions may be lost."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from statewise.config import ServeSettings

SHARED = {"store": "redis://127.0.0.1:1/0", "seal_keys": "keys"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"replicas": 2}, "--replicas 2 takes a --store that all of them share"),
        ({"replicas": 3, "store": "memory"}, "--sessions-end-with-replica"),
        ({"replicas": 3, "store": "sqlite:sessions.db"}, "--sessions-end-with-replica"),
        ({"rebalance_above": 1}, "--rebalance-above takes a --store that other replicas share"),
        ({"rebalance_above": 1, "store": "memory"}, "--rebalance-above takes a --store"),
        ({"rebalance_above": 1, "rebalance_rate": 0.0, **SHARED}, "rebalance_rate"),
    ],
)
def test_what_would_lose_sessions_is_refused(settings, told):
    """A store of the server's own is none that another replica could go on from."""
    with pytest.raises(ValueError, match=told):
        ServeSettings(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"replicas": 1},
        {"replicas": 3, **SHARED},
        {"replicas": 3, "sessions_end_with_replica": True},
        {"replicas": 3, "rebalance_above": 100, **SHARED},
    ],
)
def test_what_loses_nothing_or_was_asked_for_is_taken(settings):
    """One server needs no store, and several share one unless that is chosen."""
    ServeSettings(**settings)


def test_the_command_says_so_in_one_line():
    """Exit status 2, from the environment as Kubernetes sets it."""
    command = [sys.executable, "-m", "statewise.cli", "serve"]
    done = subprocess.run(command, env=os.environ | {"STATEWISE_REPLICAS": "2"}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("error: --replicas 2 takes a --store that all of them share")
