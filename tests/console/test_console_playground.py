"""The playground over a host that sums: what is shown is the session's, what is wrong is said, and nothing is left behind."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from builders.summing import FATAL, Summing, summing
from statewise.console.playground import IDLE_SECONDS, Playground
from statewise.console.series import MOST_TIMESTEPS

SUM = {"model": "sum", "source": "left,right\n1,10\n2,20\n3,30\n"}


@contextlib.asynccontextmanager
async def playing(**options: Any) -> AsyncIterator[tuple[Playground, Summing]]:
    """Yields a playground, and the host of its sessions."""
    async with summing(**options) as made:
        with ThreadPoolExecutor(1) as threads:
            playground = Playground(made.host, threads)
            yield playground, made
            await playground.close()
        assert made.sums() == {"sessions": 0, "steps": 0, "rows": 0}


async def test_each_timestep_shows_the_output_and_the_state_after_it() -> None:
    """Both are the running sum of the session alone, to its end and no further."""
    async with playing() as (playground, made):
        opened = (await playground.answer({"open": SUM}))["opened"]
        assert (opened["model"], opened["version"], opened["timesteps"]) == ("sum", 3, 3)
        assert opened["inputs"] == {"x": [[1, 10], [2, 20], [3, 30]]}
        assert opened["states"] == {"state": 2}
        assert made.host.find(opened["session"]).position == 0
        first = await playground.answer({"step": 1})
        rest = await playground.answer({"step": 9})
        rows = [*first["stepped"], *rest["stepped"]]
        assert [row["position"] for row in rows] == [1, 2, 3]
        assert [row["outputs"] for row in rows] == [{"total": [1, 10]}, {"total": [3, 30]}, {"total": [6, 60]}]
        assert [row["states"]["state"] for row in rows] == [row["outputs"]["total"] for row in rows]
        assert await playground.answer({"step": 1}) == {"stepped": []}


async def test_a_playground_has_one_session() -> None:
    """Opening another series closes the session before it, and so does leaving."""
    async with playing() as (playground, made):
        for _ in range(3):
            assert "opened" in await playground.answer({"open": SUM})
            assert made.sums()["sessions"] == 1
        await playground.close()
        assert made.sums()["sessions"] == 0
        assert "no session" in (await playground.answer({"step": 1}))["refused"]["message"]


async def test_gates_that_cannot_be_shown_say_why() -> None:
    """A version without its explicit-gate graph is played all the same."""
    async with playing() as (playground, _):
        opened = (await playground.answer({"open": SUM}))["opened"]
        assert opened["gates"] == {}
        assert opened["no_gates"] == "no gates: there is no trace.onnx beside this version"


async def test_a_refused_step_leaves_the_ones_before_it() -> None:
    """What ran is shown, why the next did not is told, and the session stands where it was."""
    async with playing() as (playground, made):
        source = f"left,right\n1,1\n{FATAL},1\n"
        session = (await playground.answer({"open": {**SUM, "source": source}}))["opened"]["session"]
        told = await playground.answer({"step": 2})
        assert [row["position"] for row in told["stepped"]] == [1]
        assert told["refused"]["reason"] == "NON_FINITE_STATE"
        assert made.host.find(session).position == 1


async def test_a_session_that_was_left_alone_expires() -> None:
    """The session's idle timeout ends it, should the page neither go on nor leave; the page is told."""
    now = [0.0]
    async with playing(clock=lambda: now[0], alone=True) as (playground, made):
        await playground.answer({"open": SUM})
        now[0] += IDLE_SECONDS + 1
        assert len(made.host.sessions.expire(now[0])) == 1
        assert (await playground.answer({"step": 1}))["refused"]["reason"] == "EXPIRED"


async def test_what_a_session_is_given_at_open_is_given() -> None:
    """A factor of 3 triples the sums; the constants' names and shapes are those of the spec."""
    async with playing() as (playground, _):
        given = {"model": "given", "source": "left,right\n1,2\n", "constants": {"factor": [3], "state": [10, 20]}}
        await playground.answer({"open": given})
        assert (await playground.answer({"step": 1}))["stepped"][0]["outputs"] == {"total": [13, 26]}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (None, "takes"),
        ({"open": 3}, "takes"),
        ({"step": 0}, "takes"),
        ({"step": 10**9}, "takes"),
        ({"open": {**SUM, "version": "3"}}, "version: takes int"),
        ({"open": {**SUM, "version": True}}, "version: takes int"),
        ({"open": {**SUM, "version": 99}}, "no version 99"),
        ({"open": {**SUM, "model": "../etc"}}, "cannot name a model"),
        ({"open": {**SUM, "model": "no-such"}}, "no model"),
        ({"open": {**SUM, "source": ""}}, "no column left, right"),
        ({"open": {**SUM, "source": "left\n1\n"}}, "no column right"),
        ({"open": {**SUM, "source": "left,right\n"}}, "has no rows"),
        ({"open": {**SUM, "source": "left,right\n1,2\n1,two\n"}}, "row 3, column right: 'two' is not a number"),
        ({"open": {**SUM, "source": "left,right\n1,\n"}}, "row 2, column right: the value is missing"),
        ({"open": {**SUM, "source": "left,right\n" + "1,2\n" * (MOST_TIMESTEPS + 1)}}, "at most 2,000 timesteps"),
        ({"open": {**SUM, "constants": {"speed": [1]}}}, "speed: the model's sessions are given nothing"),
        ({"open": {**SUM, "model": "given"}}, "factor: missing"),
        ({"open": {**SUM, "model": "given", "constants": {"factor": [1, 2]}}}, "factor: takes 1 numbers"),
        ({"open": {**SUM, "model": "given", "constants": {"factor": [-1]}}}, "factor: takes numbers above 0"),
        ({"open": {"model": "tokens", "source": "token\n1.5\n"}}, "row 2, column token: '1.5' is no int32"),
    ],
)
async def test_what_cannot_be_played_is_said(message: object, words: str) -> None:
    """In one line that names the field, the row or the character; no session is opened."""
    async with playing() as (playground, made):
        assert words in (await playground.answer(message))["refused"]["message"]
        assert made.sums()["sessions"] == 0


async def test_a_model_without_features_is_played_by_places() -> None:
    """Integers stay integers, and their column bears the tensor's name."""
    async with playing() as (playground, _):
        await playground.answer({"open": {"model": "tokens", "source": "token\n5\n7\n"}})
        rows = (await playground.answer({"step": 2}))["stepped"]
        assert [row["outputs"]["total"] for row in rows] == [[5], [12]]
