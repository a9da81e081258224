"""A host over real models, and steps that reach it together."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry

from builders.asking import Listener
from statewise.config import Limits
from statewise.host import Host
from statewise.metrics import ServerMetrics
from statewise.repository import Repository


@contextlib.asynccontextmanager
async def host_of(repository):
    """A host over the repository."""
    host = Host(Repository(repository), Limits(batch=8), "CPUExecutionProvider", ServerMetrics(CollectorRegistry()))
    await host.models.refresh()
    try:
        yield host
    finally:
        await host.stop()


async def answers(host, steps):
    """What the model answers to steps that arrive together, each `[timesteps, …]`."""
    listener = Listener()
    for tag, step in enumerate(steps):
        host.step(step, listener, tag)
    await host.batcher.until_quiet()
    assert not [told.problem for told in listener.heard if told.problem]
    return [told.total for told in sorted(listener.heard, key=lambda told: told.tag)]
