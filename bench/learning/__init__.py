"""How well the cells learn, beside baselines that need no network, on three public data sets. `make evaluate`.

`demand`, `vowels` and `text` each list their *units*: a function and its arguments that train one network, from nothing, in one
thread. `ledger` runs the units in worker processes and keeps what they return, `page` makes docs/evaluation.md of it.
"""
