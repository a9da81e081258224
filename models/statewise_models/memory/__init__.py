"""How far back a model remembers.

`gradients` measures, `windows` brings windows of real data to it, `recall` is a task that shows why gates exist, `picture` draws,
and `section` tells it in a version's report. The command is in `cli.memory`.
"""
