"""The console's port: the page, what it asks for, and the playground's WebSocket.

`/` and `/page/…` are files of this package. `/api/…` is JSON. `/report/MODEL/VERSION` is the page that training wrote, behind a
policy that lets it do nothing. `/play` is the playground.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from prometheus_client import CollectorRegistry

from statewise.access import is_local
from statewise.console import described
from statewise.console.described import Told
from statewise.console.figures import Figures
from statewise.console.guard import HEADERS, REPORT_POLICY, Admits, guard
from statewise.console.playground import Playground
from statewise.console.refusals import Refusals
from statewise.errors import StatewiseError
from statewise.host import Host
from statewise.repository import RepositoryError

PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
SAMPLE_SECONDS = 1.0
MOST_PLAYING = 16
MOST_MESSAGE_BYTES = 1024 * 1024
HEARTBEAT_SECONDS = 15.0
"""A page that does not answer for so long, such as that of a sleeping laptop, has left, and its session is closed."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server's other ports are, to be shown."""

    grpc: str
    metrics: str


class Console:
    """A console of one host.

    Attributes:
        address: where it listens, once started.
    """

    def __init__(
        self, host: Host, registry: CollectorRegistry, listen: str, addresses: Callable[[], Addresses], admits: Admits | None = None
    ) -> None:
        self.address = ""
        self._host = host
        self._listen = listen
        self._addresses = addresses
        self._started = time.time()
        self._figures = Figures(registry, self._started)
        self._refusals = Refusals()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="console")
        self._playing: set[web.WebSocketResponse] = set()
        self._sampling: asyncio.Task[None] | None = None
        app = web.Application(middlewares=[guard(listen.rpartition(":")[0], admits)])
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/page/{file}", self._file),
                web.get("/api/overview", self._overview),
                web.get("/api/models", self._models),
                web.get(r"/api/models/{name}/{version:\d{1,9}}", self._version),
                web.get(r"/report/{name}/{version:\d{1,9}}", self._report),
                web.get("/play", self._play),
            ]
        )
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)

    async def start(self) -> None:
        """Binds the port and begins to look at the metrics once a second; raises `OSError`."""
        host, _, port = self._listen.rpartition(":")
        await self._runner.setup()
        await web.TCPSite(self._runner, host.strip("[]"), int(port)).start()
        self.address = f"{host}:{self._runner.addresses[0][1]}"
        if not is_local(host):
            log.warning("the console is open to whoever reaches its address", address=self.address)
        self._sampling = asyncio.create_task(self._sample())

    async def stop(self) -> None:
        """Ends the playgrounds, with their sessions, and closes the port."""
        if self._sampling:
            self._sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sampling
        for socket in list(self._playing):
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops")
        await self._runner.cleanup()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            try:
                now = time.time()
                sessions = self._host.sessions
                for (reason, model), count in self._figures.take(now, len(sessions), len(sessions.steps)).items():
                    self._refusals.note(reason, model, round(count), now)
            except Exception:
                log.exception("the console cannot read the metrics")  # the next second may find them mended

    async def _index(self, _: web.Request) -> web.Response:
        return _file(PAGE / "index.html")

    async def _file(self, request: web.Request) -> web.Response:
        file = PAGE / request.match_info["file"]
        if file.parent != PAGE or file.suffix not in KINDS or not file.is_file():
            raise web.HTTPNotFound
        return _file(file)

    async def _overview(self, request: web.Request) -> web.Response:
        """Tells how the server is, with the samples after the one that the page has."""
        after = request.query.get("after", "0")
        samples = self._figures.after(int(after) if after.isdecimal() and len(after) < 16 else 0)
        return _json(
            {
                "state": "ready" if self._host.accepts else "failed" if self._host.failed.is_set() else "draining",
                "instance": self._host.instance,
                "version": version("statewise"),
                "started": self._started,
                "now": time.time(),
                "addresses": asdict(self._addresses()),
                "capacity": described.capacity(self._host),
                "models": described.models(self._host),
                "refusals": [asdict(refusal) for refusal in self._refusals.newest_first()],
                "samples": [asdict(sample) for sample in samples],
            }
        )

    async def _models(self, _: web.Request) -> web.Response:
        return _json({"models": described.models(self._host)})

    async def _version(self, request: web.Request) -> web.Response:
        """Tells all of a version. One that is not in memory is loaded, as it is for a client who asks for it by number."""
        name, number = request.match_info["name"], int(request.match_info["version"])
        with contextlib.suppress(StatewiseError):  # why it cannot be loaded is among what is told
            await self._host.models.find(name, number, "")
        try:
            return _json(described.version(self._host, name, number))
        except RepositoryError as problem:
            raise web.HTTPNotFound(text=f"{problem}\n") from problem

    async def _report(self, request: web.Request) -> web.Response:
        try:
            file = described.report(self._host, request.match_info["name"], int(request.match_info["version"]))
            page = await asyncio.to_thread(file.read_text, encoding="utf-8")
        except (RepositoryError, OSError, ValueError) as problem:
            raise web.HTTPNotFound(text=f"{problem}\n") from problem
        return web.Response(text=page, content_type="text/html", headers={**HEADERS, "Content-Security-Policy": REPORT_POLICY})

    async def _play(self, request: web.Request) -> web.StreamResponse:
        """Answers a page's messages one after the other, until it leaves."""
        if len(self._playing) >= MOST_PLAYING:
            raise web.HTTPServiceUnavailable(text=f"{MOST_PLAYING} people play already\n")
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_SECONDS, max_msg_size=MOST_MESSAGE_BYTES)
        self._playing.add(socket)
        playground = Playground(self._host, self._threads)
        try:
            await socket.prepare(request)
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    break
                await socket.send_json(await playground.answer(_read(message.data)), dumps=_words)
        except ConnectionResetError:
            log.debug("a page left while it was answered")
        finally:
            self._playing.discard(socket)
            await playground.close()
        return socket


def _file(file: Path) -> web.Response:
    return web.Response(body=file.read_bytes(), content_type=KINDS[file.suffix], charset="utf-8", headers=HEADERS)


def _json(told: Told) -> web.Response:
    return web.json_response(told, dumps=_words, headers={**HEADERS, "Cache-Control": "no-store"})


def _words(told: object) -> str:
    return json.dumps(told, allow_nan=False, separators=(",", ":"))


def _read(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None
