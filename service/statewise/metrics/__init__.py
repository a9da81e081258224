"""All metrics of the server: `server` names them, `families` are the kinds of which they are made.

`calls` counts gRPC calls, `accuracy` how forecasts come true.
"""

from statewise.metrics.calls import CallMetrics
from statewise.metrics.families import Described, Exposed, Families, Silent
from statewise.metrics.server import ServerMetrics

__all__ = ["CallMetrics", "Described", "Exposed", "Families", "ServerMetrics", "Silent"]
