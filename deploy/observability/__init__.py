"""What operators get, made from code: alerts and recording rules, the board, and the page of metrics.

`alerts` says when to call somebody, `rules` writes that for Prometheus (plain, as a PrometheusRule, and as promtool's test),
`board` draws, `page` tells of each metric. `python -m deploy.observability generate` writes all of it, and `check` holds what is
committed.
"""
