"""The console: a page about one server, served by itself, and a playground in which people watch a model think.

`figures` and `refusals` read once a second what the metrics count; `described` tells what is served; `series` turns what a person
gives into timesteps, which `playground` steps through an ordinary session of the host. `site` serves all of it, and the page, to
whom `guard` lets through. Nothing here changes a model, or touches a session that it has not opened.
"""

from statewise.console.site import Addresses, Console

__all__ = ["Addresses", "Console"]
