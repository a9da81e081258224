"""A version that is like another but for its spec: names that a page must escape, or a model without a task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from statewise.repository import MODEL_FILE, Repository
from statewise.spec import METADATA_KEY

Change = Callable[[dict[str, Any]], None]


def remade(root: Path, source: str, model: str, change: Change) -> None:
    """Publishes the newest version of `source` as `model`, with the JSON of its spec changed; it has no trace and no report."""
    place = Repository(root)
    loaded = onnx.load(place.path(source, place.versions(source)[-1]))
    props = {entry.key: entry.value for entry in loaded.metadata_props}
    told = json.loads(props[METADATA_KEY])
    change(told)
    onnx.helper.set_model_props(loaded, {**props, METADATA_KEY: json.dumps(told)})

    def write(folder: Path) -> None:
        (folder / MODEL_FILE).write_bytes(loaded.SerializeToString())

    place.publish(model, write)
