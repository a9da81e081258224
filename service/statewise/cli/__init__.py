"""The command `statewise`. This file imports nothing but the standard library, so that it can say which extra is missing."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import requires

_DISTRIBUTION_OF_MODULE = {
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "onnxruntime": "onnxruntime-gpu",
    "pydantic": "pydantic-settings",
}
GRPC_EXPERIMENTS = "-event_engine_listener"
"""How gRPC waits for a server's sockets: without the threads of its event engine, one hand-over less a message (decision 0028)."""
_EXTRA_OF_COMMAND = {"evaluate": "evaluate", "memory": "train", "trace": "evaluate", "train": "train"}  # the others: serve


def main() -> None:
    """Runs the command line; what is missing or wrong is said in one line."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core logs on stderr what we say in one line
    os.environ.setdefault("GRPC_EXPERIMENTS", GRPC_EXPERIMENTS)  # it is read when gRPC is imported
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime would report to its makers
    try:
        from statewise.cli.app import run

        run()
    except ModuleNotFoundError as missing:
        extra = extra_of(missing.name or "")
        if not extra:
            raise
        sys.exit(
            f"error: this command needs statewise[{extra}]: pip install 'statewise[{extra}]' ({missing.name} is not installed)"
        )


def extra_of(module: str) -> str | None:
    """Returns the extra that brings a module: that of the command, or one that has it; `None` if none does."""
    root = module.partition(".")[0]
    distribution = _DISTRIBUTION_OF_MODULE.get(root, root.replace("_", "-"))
    wanted = next((extra for command, extra in _EXTRA_OF_COMMAND.items() if sys.argv[1:2] == [command]), "serve")
    extras = re.findall(rf"^{re.escape(distribution)}\b.*extra == ['\"](\w+)['\"]", "\n".join(requires("statewise") or ()), re.M)
    if "cli" in extras or (wanted == "train" and "evaluate" in extras):
        return wanted
    return (
        wanted
        if wanted in extras
        else next((extra for extra in extras if extra in {"serve", "console", "evaluate", "train"}), None)
    )
