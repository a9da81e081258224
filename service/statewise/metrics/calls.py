"""`grpc_server_*`: calls by service and method, under the names that gRPC's interceptors for Go and Java have made usual.

A stream is one call: its messages are not counted, since each would cost as much as a step's other metrics together, and
`statewise_steps_total` tells more of them.
"""

from __future__ import annotations

from statewise.metrics.families import Families, once

CALL = ("grpc_type", "grpc_service", "grpc_method")


class CallMetrics:
    """Counts of calls."""

    def __init__(self, families: Families) -> None:
        self.started = once(families.counter("grpc_server_started_total", "Calls that began.", *CALL).labels)
        self.handled = once(
            families.counter("grpc_server_handled_total", "Calls that ended, by status.", *CALL, "grpc_code").labels
        )
        self.handling_seconds = once(
            families.histogram("grpc_server_handling_seconds", "From begin to end of a unary call.", *CALL).labels
        )

    def know(self, kind: str, service: str, method: str) -> None:
        """Exposes the zeros of a method that will be served."""
        self.started(kind, service, method)
        self.handled(kind, service, method, "OK")
        if kind == "unary":
            self.handling_seconds(kind, service, method)
