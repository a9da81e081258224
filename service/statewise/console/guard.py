"""Who and what the console lets in, and what it tells browsers about its answers.

On loopback only pages of this very address are answered: a foreign page whose name was made to point at loopback (DNS rebinding)
sends its own name as Host, and a foreign page that opens a WebSocket tells its own Origin. With keys, each request brings one: as a
bearer, or as the password that a browser asks its user for.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from aiohttp.typedefs import Middleware
from yarl import URL

from statewise.access import is_local

Admits = Callable[[str], bool]
"""Whether a key is good."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
"""A report runs no script and fetches nothing; whatever is in it, it is a picture of a page."""
HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def guard(listen: str, admits: Admits | None) -> Middleware:
    """Returns what stands before every answer of a console that listens on an address."""
    only_loopback = is_local(listen)

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if why := refusal(request.headers, only_loopback=only_loopback):
            return web.Response(status=403, text=f"{why}\n", headers=HEADERS)
        if admits and not admits(key_of(request.headers.get("Authorization", ""))):
            asked = {**HEADERS, "WWW-Authenticate": 'Basic realm="statewise console: the key is the password", charset="UTF-8"'}
            return web.Response(status=401, text="this console takes a key\n", headers=asked)
        try:
            response = await handler(request)
        except web.HTTPException as problem:
            problem.headers.update(HEADERS)
            raise
        if not response.prepared:
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
        return response

    return guarded


def refusal(headers: Mapping[str, str], *, only_loopback: bool) -> str:
    """Returns why a request comes from a page that is not the console's; empty if it does not."""
    host = headers.get("Host", "")
    if only_loopback and not is_local(URL(f"http://{host}").host or ""):
        return f"this console answers on loopback only, not as {host!r}"
    origin = headers.get("Origin")
    if origin is not None and URL(origin).authority != URL(f"http://{host}").authority:
        return f"a page of {origin!r} may not talk to this console"
    return ""


def key_of(authorization: str) -> str:
    """Returns the key of an `Authorization` header: a bearer's token, or Basic's password; empty if there is none."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
