"""Messages and stubs generated from protos/statewise/v1 by `make proto`."""
