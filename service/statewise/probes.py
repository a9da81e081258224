"""The health paths of the Open Inference Protocol, for probes that speak HTTP: beside the metrics, on their port."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LIVE, READY = "/v2/health/live", "/v2/health/ready"


def with_health(application: WSGIApplication, ready: Callable[[], bool]) -> WSGIApplication:
    """Returns an application that answers the health paths itself: 200 with no body, or 503 where the server is not ready."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path not in (LIVE, READY):
            return application(environ, start_response)
        well = path == LIVE or ready()
        start_response("200 OK" if well else "503 Service Unavailable", [("Content-Length", "0")])
        return [b""]

    return answer
