"""Versions against new data, as they will be served; no torch, so that a gate can stand where only ONNX Runtime does.

    file → read as the versions' specs say → `served` runs each once, the state carried → a task's scores beside the baselines
         → `Judged` → `gate`

`forecast`, `classify` and `tokens` are the doors.
"""
