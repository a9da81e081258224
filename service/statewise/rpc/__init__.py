"""The gRPC face of the server: `codec` (messages ↔ values), `status` (errors → statuses), `servicer` (the methods)."""
