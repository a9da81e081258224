"""Triton as a server that is measured: its repository, its start, its messages."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

import onnx

from bench.processes import READY_SECONDS, Server
from statewise.catalog import read_spec
from statewise.spec import ModelSpec

CONFIG = """\
backend: "python"
max_batch_size: 256
sequence_batching {{
  max_sequence_idle_microseconds: 600000000
  oldest {{ max_candidate_sequences: 1024 }}
  control_input [
    {{ name: "START" control [ {{ kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] }} ] }},
    {{ name: "CORRID" control [ {{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 }} ] }}
  ]
}}
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ {features} ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
{parameters}
"""


class Triton:
    """A Triton server with one model.

    Args:
        python: of an environment with nvidia-pytriton and onnxruntime.
        home: where its repository is written.
        model: the plain graph.
    """

    server: Server

    def __init__(self, python: Path, home: Path, model: Path, name: str, features: int) -> None:
        self._python = python
        self._home = home / "triton"
        self._model = model
        self._name = name
        self._features = features
        self._sequences = 0

    def __enter__(self) -> Self:
        root, packages = self._layout(), self._packages()
        http, grpc = _free_port(), _free_port()
        command = [str(root / "bin" / "tritonserver"), "--model-repository", str(self._home / "repository")]
        command += ["--backend-directory", str(root / "backends"), "--grpc-address", "127.0.0.1", "--http-address", "127.0.0.1"]
        command += ["--grpc-port", str(grpc), "--http-port", str(http), "--allow-metrics", "false"]
        command += ["--grpc-infer-allocation-pool-size", "4096"]  # with its default it crashed under 16 streams
        libraries = f"{packages / 'nvidia_pytriton.libs'}:{packages / 'pytriton' / 'tritonserver' / 'external_libs'}"
        environment = {**os.environ, "LD_LIBRARY_PATH": libraries, "PATH": f"{self._python.parent}:{os.environ['PATH']}"}
        with (self._home / "triton.log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True)
        self.server = Server(process, f"127.0.0.1:{grpc}")
        self._until_ready(f"http://127.0.0.1:{http}/v2/models/{self._name}/ready")
        return self

    def __exit__(self, *told: object) -> None:
        self.server.__exit__(*told)

    def prepare(self, streams: int) -> Path:
        """Writes the messages of a number of streams, and returns the file."""
        file = self._home / f"messages-{streams}.json"
        script = Path(__file__).with_name("prepare.py")
        words = [str(self._python), str(script), self._name, str(self._features), str(streams), str(self._sequences + 1)]
        self._sequences += streams
        file.write_text(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        return file

    def _layout(self) -> Path:
        """Writes the model repository, and a copy of Triton with its stub in place; returns the copy."""
        shutil.rmtree(self._home, ignore_errors=True)
        folder = self._home / "repository" / self._name / "1"
        folder.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("model.py"), folder / "model.py")
        spec = read_spec(onnx.load(self._model))
        parameters = "".join(
            f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(value)} }} }}\n'
            for key, value in self._told(spec).items()
        )
        config = CONFIG.format(features=self._features, parameters=parameters)
        (folder.parent / "config.pbtxt").write_text(config)
        source, root = self._packages() / "pytriton" / "tritonserver", self._home / "tritonserver"
        shutil.copytree(source, root, ignore=shutil.ignore_patterns("python_backend_stubs"))
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        shutil.copy(source / "python_backend_stubs" / version / "triton_python_backend_stub", root / "backends" / "python")
        return root

    def _told(self, spec: ModelSpec) -> dict[str, str]:
        states = [
            {"input": state.input, "output": state.output, "shape": state.shape, "batch_axis": state.batch_axis}
            for state in spec.states
        ]
        return {
            "path": json.dumps([str(self._packages())]),
            "model": str(self._model.absolute()),
            "input": spec.inputs[0].name,
            "features": str(self._features),
            "output": spec.outputs[0].name,
            "lengths": spec.lengths or "",
            "states": json.dumps(states),
        }

    def _packages(self) -> Path:
        code = "import pytriton, pathlib; print(pathlib.Path(pytriton.__file__).parents[1])"
        return Path(subprocess.run([str(self._python), "-c", code], check=True, capture_output=True, text=True).stdout.strip())

    def _until_ready(self, url: str) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self.server.process.poll() is None:
            try:
                with urllib.request.urlopen(url, timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise RuntimeError(f"Triton did not become ready; see {self._home / 'triton.log'}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
