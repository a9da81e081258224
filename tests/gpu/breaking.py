"""A server on CUDA that breaks its own device when it is told to: SIGUSR1 has a kernel write where nothing is."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
from pathlib import Path

from statewise.cli.serve import log_to_stderr
from statewise.config import ServeSettings
from statewise.server import Server, serve

KERNEL = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry astray()
{
    .reg .u64 %where;
    .reg .u32 %what;
    mov.u64 %where, 16;
    mov.u32 %what, 1;
    st.global.u32 [%where], %what;
    ret;
}
"""
ILLEGAL_ADDRESS = 700


def break_device() -> None:
    """Leaves the process's context on the first device with an error that does not go away."""
    cuda = ctypes.CDLL("libcuda.so.1")
    context, module, kernel = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert cuda.cuCtxSetCurrent(context) == 0
    assert cuda.cuModuleLoadData(ctypes.byref(module), KERNEL) == 0
    assert cuda.cuModuleGetFunction(ctypes.byref(kernel), module, b"astray") == 0
    assert cuda.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, None, None, None) == 0
    assert cuda.cuCtxSynchronize() == ILLEGAL_ADDRESS


def say(what: str) -> None:
    """Tells the test."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def announce(server: Server) -> None:
    """Says where it listens, and from now on takes the signal."""

    def caught(*_: object) -> None:
        break_device()
        say("broken")

    signal.signal(signal.SIGUSR1, caught)
    say(f"ready on {server.address}")


if __name__ == "__main__":
    log_to_stderr("warning", "json")
    asked = ServeSettings(repository=Path(sys.argv[1]), listen="127.0.0.1:0", metrics_listen="127.0.0.1:0", provider="cuda")
    sys.exit(asyncio.run(serve(asked, announce)))
