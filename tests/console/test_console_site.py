"""The console's port: who is let in, what browsers are told, and that sessions end with their sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError, encode_basic_auth
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from builders.served import start
from builders.summing import Summing, summing
from statewise.config import ServeSettings
from statewise.console import Addresses, Console
from statewise.console.guard import key_of, refusal
from statewise.console.site import MOST_PLAYING
from statewise.server import Server, StartError

SUM = {"open": {"model": "sum", "source": "left,right\n1,10\n"}}


@contextlib.asynccontextmanager
async def visited(**options: Any) -> AsyncIterator[tuple[ClientSession, Console, Summing]]:
    """Yields a visitor of a console over summing models."""
    async with summing() as made:
        console = Console(made.host, CollectorRegistry(), "127.0.0.1:0", lambda: Addresses("here:1", "here:2"), **options)
        await console.start()
        try:
            async with ClientSession(f"http://{console.address}") as visitor:
                yield visitor, console, made
        finally:
            await console.stop()
            await console.stop()  # which a drain does as well


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/style.css", "/api/overview", "/api/models", "/no/such"])
async def test_every_answer_tells_browsers_to_trust_nobody_else(path: str) -> None:
    """Scripts and styles come from the console alone, nobody frames it, and no kind is guessed; of what is not there as well."""
    async with visited() as (visitor, _, _), visitor.get(path) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.status == (404 if path == "/no/such" else 200)


@pytest.mark.parametrize(
    "path", ["/page/..%2fsite.py", "/page/%2e%2e%2fsite.py", "/page/none.js", "/page/", "/report/sum/3", "/report/..%2f/3"]
)
async def test_no_other_file_is_given(path: str) -> None:
    """The page's files and reports are all that there is to read."""
    async with visited() as (visitor, _, _), visitor.get(path) as answer:
        assert answer.status == 404


async def test_pages_of_others_are_refused() -> None:
    """By the name under which a rebound page came, and by the Origin that a WebSocket's page tells."""
    async with visited() as (visitor, console, made):
        async with visitor.get("/api/overview", headers={"Host": "evil.example"}) as answer:
            assert (answer.status, "'evil.example'" in await answer.text()) == (403, True)
        with pytest.raises(WSServerHandshakeError, match="403"):
            await visitor.ws_connect("/play", origin="http://evil.example")
        async with visitor.ws_connect("/play", origin=f"http://{console.address}") as own:
            await own.send_json(SUM)
            assert "opened" in await own.receive_json()
            assert made.sums()["sessions"] == 1


@pytest.mark.parametrize(
    ("headers", "local", "let_in"),
    [
        ({"Host": "localhost:80"}, True, True),
        ({"Host": "[::1]:80"}, True, True),
        ({"Host": "127.0.0.1.evil.example"}, True, False),
        ({}, True, False),
        ({"Host": "gpu-7:80"}, False, True),
        ({"Host": "gpu-7:80", "Origin": "http://gpu-7:80"}, False, True),
        ({"Host": "gpu-7:80", "Origin": "http://gpu-7:81"}, False, False),
        ({"Host": "gpu-7:80", "Origin": "null"}, False, False),
    ],
)
def test_whose_page_asks_is_told_by_host_and_origin(headers: dict[str, str], local: bool, let_in: bool) -> None:
    """On loopback only loopback's names are the console's; elsewhere a page must be of the name that it asks."""
    assert (refusal(headers, only_loopback=local) == "") is let_in


async def test_with_keys_nothing_is_told_without_one() -> None:
    """A key is taken as a bearer, or as the password that a browser asks for; a WebSocket takes one as well."""
    async with visited(admits=lambda key: key == "right") as (visitor, _, _):
        for path in ("/", "/api/overview", "/no/such"):
            async with visitor.get(path) as answer:
                assert (answer.status, answer.headers["WWW-Authenticate"][:5]) == (401, "Basic")
        for key, status in (("right", 200), ("wrong", 401)):
            async with visitor.get("/api/overview", headers={"Authorization": encode_basic_auth("me", key)}) as answer:
                assert answer.status == status
        with pytest.raises(WSServerHandshakeError, match="401"):
            await visitor.ws_connect("/play")
        async with visitor.ws_connect("/play", headers={"Authorization": "Bearer right"}) as play:
            await play.send_json(SUM)
            assert "opened" in await play.receive_json()


def test_the_console_of_a_server_with_keys_takes_the_same(console_repository: Path, tmp_path: Path) -> None:
    """Who may call the server may look at it, and nobody else."""
    (tmp_path / "keys").write_text("right-key-0123456789\n")
    running = start(console_repository, "--console-listen", "127.0.0.1:0", "--bearer-key-file", str(tmp_path / "keys"))
    try:
        asked = urllib.request.Request(f"{running.console}api/overview", headers={"Authorization": "Bearer right-key-0123456789"})
        with urllib.request.urlopen(asked) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{running.console}api/overview")
    finally:
        running.stop()


@pytest.mark.parametrize("header", ["", "Bearer", "Basic", "Basic !!", "Basic /w==", "Digest x", "Basic bm9jb2xvbg=="])
def test_what_is_no_key_is_none(header: str) -> None:
    """An Authorization that cannot be read brings no key, and breaks nothing."""
    assert key_of(header) == ""


async def test_sessions_end_with_their_sockets() -> None:
    """Be the socket closed, cut, or one that talks nonsense; the next page is answered as ever."""
    async with visited() as (visitor, _, made):
        for leave in ("close", "cut", "nonsense"):
            play = await visitor.ws_connect("/play")
            await play.send_json(SUM)
            assert "opened" in await play.receive_json()
            if leave == "nonsense":
                await play.send_bytes(b"\x00")
            if leave == "cut":
                play._response.connection.transport.abort()
            else:
                await play.close()
            while made.sums()["sessions"]:  # noqa: ASYNC110 (nothing tells of it, and the loop must turn)
                await asyncio.sleep(0)


async def test_only_so_many_play_at_once() -> None:
    """One more is told to come later; those who play go on."""
    async with visited() as (visitor, _, _), contextlib.AsyncExitStack() as stack:
        plays = [await stack.enter_async_context(visitor.ws_connect("/play")) for _ in range(MOST_PLAYING)]
        with pytest.raises(WSServerHandshakeError, match="503"):
            await visitor.ws_connect("/play")
        await plays[-1].send_json(SUM)
        assert "opened" in await plays[-1].receive_json()


async def test_stopping_ends_what_is_played() -> None:
    """The socket is told that the server goes, and its session is closed."""
    async with visited() as (visitor, console, made), visitor.ws_connect("/play") as play:
        await play.send_json(SUM)
        await play.receive_json()
        stopping = asyncio.create_task(console.stop())
        assert (await play.receive()).type is WSMsgType.CLOSE
        await stopping
        assert made.sums()["sessions"] == 0


async def test_the_overview_tells_what_is_there() -> None:
    """State, addresses, what is taken, and every model with its versions."""
    async with visited() as (visitor, _, made):
        async with visitor.get("/api/overview") as answer:
            told = await answer.json()
        assert (told["state"], told["addresses"]) == ("ready", {"grpc": "here:1", "metrics": "here:2"})
        assert told["capacity"]["sessions"] == {"used": 0, "limit": made.host.limits.sessions}
        assert [model["name"] for model in told["models"]] == ["clocked", "given", "sum", "tokens"]
        assert [each["state"] for each in told["models"][2]["versions"]] == ["not loaded", "not loaded", "ready"]
        made.host._draining = True
        async with visitor.get("/api/overview?after=junk") as answer:
            assert (await answer.json())["state"] == "draining"


async def test_a_version_that_is_asked_for_is_loaded() -> None:
    """As it is for a client who asks for it by number; one that is not there is not found."""
    async with visited() as (visitor, _, _):
        async with visitor.get("/api/models/given/8") as answer:
            told = await answer.json()
        assert (told["state"], told["report"], told["trace"]) == ("ready", False, False)
        assert [constant["name"] for constant in told["spec"]["constants"]] == ["state", "factor"]
        assert [column["name"] for column in told["spec"]["columns"]] == ["left", "right"]
        async with visitor.get("/api/models/given/99") as answer:
            assert (answer.status, "no version 99" in await answer.text()) == (404, True)


def test_there_is_no_console_unless_asked_for(tmp_path: Path) -> None:
    """By default nothing listens for it; what names no address is refused."""
    assert ServeSettings(repository=tmp_path).console_listen == ""
    for wrong in ("8003", "here", "127.0.0.1:", "127.0.0.1:99999"):
        with pytest.raises(ValidationError, match="takes HOST:PORT"):
            ServeSettings(console_listen=wrong)


async def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    """The server does not start without the console that was asked for."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = Server(
            ServeSettings(repository=tmp_path, listen="127.0.0.1:0", metrics_listen="127.0.0.1:0", console_listen=address)
        )
        with pytest.raises(StartError, match=f"cannot listen on {address} for the console: "):
            await server.start()
        await server.stop()


async def test_a_server_that_never_started_stops(tmp_path: Path) -> None:
    """Its console as well."""
    server = Server(ServeSettings(repository=tmp_path / "none", console_listen="127.0.0.1:0"))
    with pytest.raises(StartError, match="is not a folder"):
        await server.start()
    await server.stop()
