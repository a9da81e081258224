"""Messages and stubs generated from protos/statewise/inference by `make proto`. No client of ours imports them.

tritonclient brings messages of the same names, and protobuf knows each name once in a process: only the server may have these.
"""
