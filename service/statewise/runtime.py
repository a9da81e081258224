"""ONNX Runtime: which provider runs the models, its libraries, and graphs opened in it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
from typing import Literal

import onnx
import onnxruntime
import structlog

from statewise.graph import rows_reader

Provider = Literal["CPUExecutionProvider", "CUDAExecutionProvider"]
CUDA: Provider = "CUDAExecutionProvider"
DEVICES: dict[Provider, str] = {"CPUExecutionProvider": "cpu", CUDA: "cuda"}
USUAL_BATCH: dict[Provider, int] = {"CPUExecutionProvider": 256, CUDA: 1_024}
"""Steps of one run unless told otherwise. A run of 1,024 takes a GPU little longer than one of 64 (docs/benchmarks.md)."""
CUDA_OPTIONS = {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
"""TF32 would round what is multiplied to 10 bits of mantissa, and outputs would be 1e-3 of their scale apart. And an arena that
grows by powers of two takes twice what is asked for, and after a request that did not fit nearly the whole device."""
log = structlog.get_logger()


class EngineError(Exception):
    """A model cannot be run by this engine, or a run failed.

    Attributes:
        fatal: whether nothing on the device can be trusted any more.
    """

    def __init__(self, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal


def choose_provider(wanted: str) -> Provider:
    """Returns the execution provider for `auto`, `cpu` or `cuda`; raises `EngineError` where CUDA is asked for and absent.

    `auto` is CUDA where there is a GPU that ONNX Runtime can use: what it lists is what it was built for, so a graph is tried.
    """
    cuda = CUDA in onnxruntime.get_available_providers()
    if wanted == "cuda" and not cuda:
        raise EngineError("provider cuda: this ONNX Runtime has no CUDA (pip install 'statewise[cuda]')")
    if wanted == "cpu" or not cuda or (wanted == "auto" and not _finds_cuda()):
        return "CPUExecutionProvider"
    return CUDA


def has_gpu() -> bool:
    """Returns whether NVIDIA's driver is there."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _finds_cuda() -> bool:
    if not has_gpu():  # ONNX Runtime would try at length, and complain
        return False
    try:
        opened(rows_reader(("float32",)), CUDA, 1)
    except EngineError as problem:
        log.warning("a GPU is there and cannot be used; running on CPU", why=str(problem), install="statewise[cuda]")
        return False
    return True


def scatters_by_element(provider: Provider) -> bool:
    """Returns which form of the scatter is the fast one."""
    return provider == CUDA


@functools.cache
def _cuda_libraries() -> str:
    """Loads CUDA's libraries from the packages that `statewise[cuda]` installs, where no loader looks; returns what it lacks."""
    with contextlib.redirect_stdout(io.StringIO()) as told:
        onnxruntime.preload_dlls()
    return "; ".join(line for line in told.getvalue().splitlines() if line.startswith("Failed"))


def opened(model: onnx.ModelProto, provider: Provider, threads: int, *, whole: bool = False) -> onnxruntime.InferenceSession:
    """Opens a model; with `whole` the CPU is not to take what the provider cannot. Raises `EngineError`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4 if whole else 3
    options.add_session_config_entry("session.disable_cpu_ep_fallback", str(int(whole)))
    lacking = _cuda_libraries() if provider == CUDA else ""
    chosen = (provider, CUDA_OPTIONS) if provider == CUDA else provider
    try:
        runtime = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[chosen])
    except Exception as error:  # onnxruntime raises many unrelated classes
        raise EngineError(f"ONNX Runtime cannot load the model: {error}") from error
    if provider not in runtime.get_providers():
        why = f": {lacking}" if lacking else ""
        raise EngineError(f"ONNX Runtime fell back from {provider} to {', '.join(runtime.get_providers())}{why}")
    return runtime
