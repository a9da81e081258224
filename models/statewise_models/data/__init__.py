"""The data room: files → checked values that training takes.

`source` opens a file, `clock` reads its times, `records` puts its rows in order as a `policy` says; `table` (forecast),
`labelled` (classify) and `text` (tokens) are the doors. `split` cuts a table by time.
"""
