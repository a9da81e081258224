"""docs/evaluation.md, whole: prose, tables and pictures from what the units returned."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from bench.learning import demand, text, vowels
from bench.learning.ledger import CELLS, Result, workers
from bench.learning.pictures import bars
from bench.learning.pictures import vowels as draw_vowels
from bench.report import machine

Results = Mapping[str, Result]
METHODS = {"persistence": "persistence", "naive_48": "daily naive", "naive_336": "weekly naive"}
SAMPLE_LINES = 14

HEAD = """\
# Evaluation

What the three cells learn on public data, beside baselines that need no network. This page and its pictures were written by

```console
make evaluate
```

which trains everything below from nothing{minutes}.
Seeds are fixed: on one machine the same versions give the same figures. No setting and no epoch is chosen by looking at a test
split.

{machine}
"""

DEMAND = """
## Forecast: electricity demand

Half-hourly demand of England and Wales, summer 2000 ([data](../examples/data/README.md)), forecast one half-hour ahead. The last
quarter of the twelve weeks is the test split, the eighth before it chooses the epoch. The settings are those of
[docs/training.md](training.md): 64 units, day and week as calendar, the change is learned.

![Root mean squared error of the cells and of the naive forecasts](images/evaluation-demand.png)

{table}

Persistence says "as it is now", the naive forecasts say "as a day, or a week, ago". {seeds} seeds each; the brackets hold their
range.
"""

VOWELS = """
## Classify: Japanese Vowels

Nine speakers say /ae/; an utterance is 7 to 29 timesteps of 12 cepstrum coefficients
([data](../examples/data/README.md)). The split is the official one: 270 utterances to learn from, 370 to report on. Settings are
chosen for each cell by the accuracy on a half of the 270 that was held back (seeds {choosing}, {candidates} candidates). Then
{seeds} seeds learn from all 270 with them, {epochs} epochs to the end, and the 370 are read. The loss counts the last timestep
alone, where the answer is read (`statewise train classify --learn last`; by default a label can be read early).

![Accuracy of every seed by cell, and a confusion matrix](images/evaluation-vowels.png)

{table}

The nearest mean forgets the order of timesteps: it gives an utterance the speaker whose mean of the coefficients is nearest. The
matrix is that of seed {shown_seed} of the {shown}, the cell that was right most often on what was held back.
The speakers said the 370 on other occasions than the 270.

The 370 are not untouched: while this evaluation was made, a loss at every timestep was reported on them first, and the search went
on because it was worse there. What replaced it was taken because it was better on what is held back of the 270.
"""

TEXT = """
## Tokens: Python's help texts

`pydoc_data.topics` of the standard library (Python {python}: {characters:,} characters), a character at a time. The last 5 % is the
test split ({held_out:,} characters), the 5 % before it chooses the epoch. {copied:.0%} of the test split, in stretches of {stretch}
characters, stands word for word in the training part as well: Python's help repeats itself. That flatters whoever
learns by heart, long n-grams first of all.

![Bits a character of the cells and of the n-grams](images/evaluation-text.png)

{table}

The n-grams are interpolated after Witten & Bell (1991), see [`baselines.py`](../bench/learning/baselines.py). The networks
have {hidden} units and read the text {epochs} times; one seed. A text that the {writer} made (temperature 0.8), a timestep at a
time:

```text
{sample}
```
"""


def write(results: Results, docs: Path, minutes: float | None) -> None:
    """Writes the page and its pictures into the folder `docs`; `minutes` is what the run took, if it was one run."""
    took = f", {workers()} networks side by side" + (f" (here in {minutes:.0f} minutes)" if minutes else " (here in several runs)")
    parts = [HEAD.format(minutes=took, machine=_machine()), _demand(results, docs), _vowels(results, docs), _text(results, docs)]
    (docs / "evaluation.md").write_text("".join(parts), encoding="utf-8")


def _machine() -> str:
    here = machine()
    lines = {
        "machine": f"{here['cpu']}, {here['cores']} cores, shared with other work",
        "versions": f"Python {here['python']}, torch {torch.__version__}, commit {here['commit']}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    return _table(("", ""), list(lines.items()))


def _demand(results: Results, docs: Path) -> str:
    runs = {cell: [results[f"demand/{cell}/{seed}"] for seed in demand.SEEDS] for cell in CELLS}
    naive = runs["lstm"][0]["baselines"]
    figures = {cell: [run["rmse"] for run in of_cell] for cell, of_cell in runs.items()}
    figures |= {METHODS[method]: [scores["rmse"]] for method, scores in naive.items()}
    bars(figures, "Electricity demand, one half-hour ahead: the error", "RMSE, MW", docs / "images/evaluation-demand.png", ",.0f")
    rows = [
        (
            cell,
            _parameters(of_cell),
            _range([run["rmse"] for run in of_cell], "{:,.0f}"),
            _range([run["mape"] for run in of_cell], "{:.2f}"),
            _seconds(of_cell),
        )
        for cell, of_cell in runs.items()
    ]
    rows += [(METHODS[method], "", f"{scores['rmse']:,.0f}", f"{scores['mape']:.2f}", "") for method, scores in naive.items()]
    table = _table(("", "parameters", "RMSE, MW", "MAPE, %", "training, s"), rows)
    return DEMAND.format(table=table, seeds=len(demand.SEEDS))


def _vowels(results: Results, docs: Path) -> str:
    runs = {cell: [results[f"vowels/{cell}/{seed}"] for seed in vowels.SEEDS] for cell in CELLS}
    rates = {cell: vowels.held_back(results, cell, of_cell[0]["candidate"]) for cell, of_cell in runs.items()}
    best = max(rates, key=lambda cell: rates[cell])
    shown = runs[best][0]
    accuracies = {cell: [run["accuracy"] for run in of_cell] for cell, of_cell in runs.items()}
    title = f"{best}, seed {vowels.SEEDS[0]}: {shown['accuracy']:.1%} right"
    draw_vowels(accuracies, shown["confusion"], title, docs / "images/evaluation-vowels.png")
    rows = [
        (
            cell,
            _parameters(of_cell),
            _candidate(of_cell[0]["candidate"]),
            f"{100 * rates[cell]:.1f}",
            _range([100 * run["accuracy"] for run in of_cell], "{:.1f}"),
            _seconds(of_cell),
        )
        for cell, of_cell in runs.items()
    ]
    rows.append(("nearest mean", "", "", "", f"{100 * results['vowels/nearest mean']['accuracy']:.1f}", ""))
    headings = ("", "parameters", "chosen", "right of the half, %", "right of 370, %", "training, s")
    return VOWELS.format(
        choosing=", ".join(map(str, vowels.CHOOSING_SEEDS)),
        candidates=len(vowels.CANDIDATES),
        seeds=len(vowels.SEEDS),
        epochs=vowels.EPOCHS,
        table=_table(headings, rows),
        shown=best,
        shown_seed=vowels.SEEDS[0],
    )


def _text(results: Results, docs: Path) -> str:
    networks = {cell: results[f"text/{cell}"] for cell in CELLS}
    ngrams = results["text/ngrams"]
    names = {str(order): {1: "unigram", 3: "trigram"}.get(order, f"{order}-gram") for order in text.ORDERS}
    figures = {cell: [run["bits"]] for cell, run in networks.items()} | {names[order]: [ngrams[order]] for order in names}
    bars(figures, "Python's help texts, the next character", "bits a character", docs / "images/evaluation-text.png", ".2f")
    rows = [(cell, _parameters([run]), f"{run['bits']:.3f}", _seconds([run])) for cell, run in networks.items()]
    rows += [(name, "", f"{ngrams[order]:.3f}", "") for order, name in names.items()]
    writer = min(networks, key=lambda cell: networks[cell]["bits"])
    return TEXT.format(
        python=machine()["python"],
        characters=ngrams["characters"],
        held_out=ngrams["held_out"],
        copied=ngrams["copied"],
        stretch=text.COPIED,
        table=_table(("", "parameters", "bits a character", "training, s"), rows),
        hidden=text.SETTINGS["hidden"],
        epochs=text.SETTINGS["epochs"],
        writer=writer,
        sample="\n".join(line.rstrip() for line in networks[writer]["sample"].strip().splitlines()[:SAMPLE_LINES]),
    )


def _candidate(place: int) -> str:
    settings = vowels.CANDIDATES[place]
    dropout = f", dropout {settings['dropout']:g}" if settings["dropout"] else ""
    return f"{settings['layers']} × {settings['hidden']} units{dropout}"


def _parameters(runs: Sequence[Result]) -> str:
    return f"{runs[0]['parameters']:,}"


def _seconds(runs: Sequence[Result]) -> str:
    return f"{statistics.mean(run['seconds'] for run in runs):.0f}"


def _range(values: Sequence[float], form: str) -> str:
    """Returns mean and range."""
    return f"{form.format(statistics.mean(values))} ({form.format(min(values))}–{form.format(max(values))})"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
