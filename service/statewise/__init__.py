"""Statewise: a gRPC server for recurrent models that keeps every session's state, and its client."""
