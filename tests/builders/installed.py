"""Processes that see only what an installation with certain extras would bring; everything else in the environment is hidden."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_HIDE = """if True:
    import importlib.machinery, sys
    _hidden = frozenset(sys.argv.pop(1).split(","))

    class Sees(importlib.machinery.PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            return None if name.partition(".")[0] in _hidden else super().find_spec(name, path, target)

    sys.meta_path = [Sees if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
"""


def distributions(*extras: str) -> set[str]:
    """Returns the names of the installed distributions that `statewise[extras]` brings, itself among them."""
    found: set[tuple[str, str]] = set()
    wanted = [("statewise", extra) for extra in ("", *extras)]
    while wanted:
        name, extra = wanted.pop()
        if (name, extra) not in found:
            found.add((name, extra))
            wanted += _needs(name, extra)
    return {name for name, _ in found}


@cache
def _needs(name: str, extra: str) -> list[tuple[str, str]]:
    try:
        told = [Requirement(line) for line in requires(name) or ()]
    except PackageNotFoundError:  # of an extra that is not installed here
        return []
    needed = [need for need in told if need.marker is None or need.marker.evaluate({"extra": extra})]
    return [(canonicalize_name(need.name), more) for need in needed for more in ("", *need.extras)]


def hidden(*extras: str) -> set[str]:
    """Returns the importable packages of this environment that `statewise[extras]` does not bring."""
    brought = distributions(*extras)
    modules = packages_distributions().items()
    return {module for module, owners in modules if brought.isdisjoint(map(canonicalize_name, owners))}


def python(extras: tuple[str, ...], script: str, *arguments: str) -> list[str]:
    """Returns the command that runs a script, indented by four, where only `statewise[extras]` is installed."""
    return [sys.executable, "-c", _HIDE + script, ",".join(sorted(hidden(*extras))), *arguments]


def statewise(extras: tuple[str, ...], *arguments: str) -> list[str]:
    """Returns the command line of `statewise` where only `statewise[extras]` is installed."""
    return python(extras, "\n    from statewise.cli import main\n    main()\n", *arguments)
