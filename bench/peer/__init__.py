"""NVIDIA Triton beside Statewise: its sequence batcher over its Python backend, with ONNX Runtime inside."""
