"""Triton's model folders: read, so that a model moves without anything being written, and written, so that it can move back."""
