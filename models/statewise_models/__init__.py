"""Recurrent models for Statewise: train Elman, LSTM and GRU networks and export them to self-describing ONNX."""
