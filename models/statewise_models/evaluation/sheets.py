"""How good versions were, as tables: all of the file, and its series or labels, the worst first."""

from __future__ import annotations

from collections.abc import Mapping

from statewise_models.evaluation.judged import Figures, Judged, Measure
from statewise_models.sheet import Row, Sheet

MOST_GROUPS = 10


def overall_sheet(judged: Judged, data: str) -> Sheet:
    """Returns the figures over all of the file, each contestant held against the first version named."""
    decisive, first = judged.decisive, judged.versions[0]
    groups = tuple(
        tuple(
            (
                subject,
                name,
                *(_figure(measure, figures) for measure in judged.measures),
                "" if name == first else _change(decisive, figures, contest[first]),
                f"{figures['count']:,.0f}",
            )
            for name, figures in contest.items()
        )
        for subject, contest in judged.overall.items()
    )
    numbers = (*(measure.name for measure in judged.measures), f"against {first}", judged.counted)
    return Sheet(f"{' and '.join(judged.versions)} on {data}", ("what", "by"), numbers, groups, judged.versions[-1])


def groups_sheet(judged: Judged, most: int | None = MOST_GROUPS) -> Sheet | None:
    """Returns the decisive figure of each series or label, the worst first and at most so many; `None` where there is only one."""
    if len(judged.groups) < 2:
        return None
    rows = sorted(
        (
            (_badness(judged, contest), group, subject, contest)
            for group, contests in judged.groups.items()
            for subject, contest in contests.items()
        ),
        key=lambda row: -row[0],
    )
    contestants = [name for name in next(iter(judged.overall.values())) if any(name in contest for *_, contest in rows)]
    shown = rows[:most]
    title = f"{judged.decisive.name} by {judged.grouped_by}, the worst first"
    title += f" ({len(shown)} of {len(rows)}; --all-series shows all)" if len(shown) < len(rows) else ""
    several = len(judged.overall) > 1
    made = tuple(_row(judged, group, subject if several else None, contest, contestants) for _, group, subject, contest in shown)
    names = (judged.grouped_by, "what") if several else (judged.grouped_by,)
    change = (f"{judged.versions[-1]} against {judged.versions[0]}",) if len(judged.versions) > 1 else ()
    return Sheet(title, names, (*contestants, *change, judged.counted), (made,))


def _row(judged: Judged, group: str, subject: str | None, contest: Mapping[str, Figures], contestants: list[str]) -> Row:
    first, last = judged.versions[0], judged.versions[-1]
    change = (_change(judged.decisive, contest[last], contest[first]),) if last != first else ()
    figures = (_figure(judged.decisive, contest.get(name, {})) for name in contestants)
    return (group, *([subject] if subject else []), *figures, *change, f"{contest[last]['count']:,.0f}")


def _badness(judged: Judged, contest: Mapping[str, Figures]) -> float:
    """Returns how much worse the last version is than the first, or, where there is one only, than the best baseline."""
    key, last = judged.decisive.key, judged.versions[-1]
    against = [judged.versions[0]] if len(judged.versions) > 1 else [name for name in contest if name != last]
    return max((judged.decisive.worse(contest[last][key] or 0.0, contest[name][key] or 0.0) for name in against), default=0.0)


def _figure(measure: Measure, figures: Figures) -> str:
    figure = figures.get(measure.key)
    return "–" if figure is None else f"{figure:{measure.form}}"


def _change(measure: Measure, figures: Figures, than: Figures) -> str:
    """Returns how much greater a figure is than another, in per cent."""
    figure, other = figures[measure.key] or 0.0, than[measure.key] or 0.0
    return f"{(figure - other) / other:+.1%}".replace("-", "−") if other else "–"
