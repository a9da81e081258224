"""Benchmarks: Statewise beside its ceilings and beside NVIDIA Triton, measured in one run. `make bench`, `make bench-peer`."""
