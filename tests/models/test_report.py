"""The page about a version: it stands by itself, tells what is true of the version, and never comes without it or breaks it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.labelled import slopes
from builders.pages import Page
from statewise.repository import MODEL_FILE, REPORT_FILE
from statewise_models.data.table import Series, Table
from statewise_models.data.text import read_text
from statewise_models.export import export
from statewise_models.memory.section import section
from statewise_models.report import Origin, Section, report
from statewise_models.report.pictures import svg
from statewise_models.sheet import Sheet
from statewise_models.training import Trained, TrainingSettings, train_classify, train_forecast, train_tokens

QUICK = {"hidden": 4, "epochs": 2, "lanes": 2, "accelerator": "cpu"}
HOSTILE = "<script>alert('x')</script> & \"load\""
SCORES = (Sheet("Scores", ("by",), ("RMSE",), ((("model", "1.5"), (HOSTILE, "2")),), "model"),)


def table(name: str = "load", *, stamped: bool = False) -> Table:
    time = np.arange(120)
    stamps = np.datetime64("2026-03-01", "us") + time * np.timedelta64(1, "h") if stamped else None
    values = (50 + 10 * np.sin(time / 4)).astype(np.float32)[:, None]
    return Table((name,), (name,), (Series("one", time, stamps, values, values),), 3600.0 if stamped else 0.0)


def forecast(tmp_path: Path) -> Trained:
    return train_forecast(table(stamped=True), TrainingSettings(window=8, calendar=(24,), **QUICK))


def classify(tmp_path: Path) -> Trained:
    return train_classify(slopes(), TrainingSettings(**QUICK))


def tokens(tmp_path: Path) -> Trained:
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question. " * 20)
    return train_tokens(read_text(tmp_path / "text.txt"), TrainingSettings(window=8, embedding=3, **QUICK))


def published(
    trained: Trained, root: Path, *, model: str = "m", origin: Origin | None = None, more: tuple[Section, ...] = ()
) -> Page:
    """The page that is published with a version."""
    origin = origin or Origin("some.csv", "statewise train …")
    made = export(
        trained.network,
        repository=root,
        model=model,
        report=lambda exported: report(model, trained, SCORES, origin, exported, more),
    )
    return Page(made.path.with_name(REPORT_FILE).read_text(encoding="utf-8"))


@pytest.mark.parametrize("train", [forecast, classify, tokens])
def test_a_page_of_every_task_needs_nothing_else(tmp_path: Path, train: Callable[[Path], Trained]):
    """No script, no link, nothing to fetch: the page can be mailed, and shows what it showed."""
    page = published(train(tmp_path), tmp_path / "r")
    assert page.outside() == []
    assert {"svg", "table", "style", "title"} <= page.tags
    assert "prefers-color-scheme: dark" in page.html
    assert "width=device-width" in page.html


def test_the_page_tells_of_the_file_beside_it(tmp_path: Path):
    """Digest, size, version, parity, split and settings are those of this version and no other."""
    trained = forecast(tmp_path)
    published(trained, tmp_path)
    page = published(trained, tmp_path, origin=Origin("load.csv", "statewise train forecast load.csv --seed 0", "m@1"))
    file = tmp_path / "m" / "2" / MODEL_FILE
    assert hashlib.sha256(file.read_bytes()).hexdigest() in page.text
    assert f"{file.stat().st_size:,}" in page.text
    for words in (
        "m@2",
        "started from m@1",
        "load.csv",
        "statewise train forecast load.csv --seed 0",
        "2026-03-01 00:00 UTC",
        "2026-03-05 23:00 UTC",
    ):
        assert words in page.text, words
    assert f"{trained.metrics['test']['load']['model']['rmse']:,.4g}" in page.text


@pytest.mark.parametrize("name", [HOSTILE, "$load$", "<!--", "{{ 7 * 7 }}"])
def test_names_are_shown_as_they_are(tmp_path: Path, name: str):
    """A column called like markup is a column's name on the page, not markup."""
    trained = train_forecast(table(name), TrainingSettings(window=8, **QUICK))
    more = (Section(name, name, pairs=((name, name),), sheets=(Sheet(name, (name,), (), (((name,),),)),), text=name),)
    page = published(trained, tmp_path, origin=Origin(name, name, name), more=more)
    assert page.outside() == []
    assert page.text.count(name) >= 10


@pytest.mark.parametrize("train", [forecast, classify, tokens])
def test_the_page_tells_how_far_back_the_gradient_reaches(tmp_path: Path, train: Callable[[Path], Trained]):
    """Each task's section has a picture and a sentence about the part that nothing was learned from."""
    trained = train(tmp_path)
    (told,) = section(trained)
    assert re.search(r"timesteps back \(median over \d+ windows of the test part\)", told.note)
    assert told.note in published(trained, tmp_path / "r", more=(told,)).text


def test_a_network_that_hardly_looks_back_is_called_that():
    """An Elman cell with next to no recurrent weights loses all but a thousandth from one timestep to the next."""
    trained = train_forecast(table(), TrainingSettings(cell="elman", window=8, **QUICK))
    with torch.no_grad():
        trained.network.recurrent.weight_hh_l0 *= 1e-3
    (told,) = section(trained)
    assert "by the hidden state falls below 1% of its first value 2 timesteps back" in told.note
    with torch.no_grad():
        trained.network.recurrent.weight_hh_l0 *= 0.0
    assert section(trained) == ()


def test_data_too_short_to_look_back_on_have_no_such_section(tmp_path: Path):
    """An export never fails for want of it."""
    trained = forecast(tmp_path)
    short = replace(trained.held_back, series=tuple(one.part(slice(0, 2)) for one in trained.held_back.series))
    assert section(replace(trained, held_back=short)) == ()


def test_pictures_on_one_page_do_not_share_names(tmp_path: Path):
    """Each id stands once, and each reference finds its own."""
    page = published(forecast(tmp_path), tmp_path)
    ids = re.findall(r' id="([^"]+)"', page.html)
    assert len(set(ids)) == len(ids)
    assert {name[1:] for name in page.references if name.startswith("#")} <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page.html)) <= set(ids)


def test_a_picture_takes_the_pages_colours(tmp_path: Path):
    """What is black or white on paper would vanish on a dark page."""
    drawn = svg(forecast(tmp_path).draw(5.0)["loss"], "loss")
    assert "var(--accent)" in drawn
    assert not re.search(r"#(000000|ffffff)", drawn)


def test_a_page_that_cannot_be_made_leaves_no_half_version(tmp_path: Path):
    """Model and page come together or not at all."""

    def fails(_: object) -> str:
        raise OSError(28, "No space left on device")

    with pytest.raises(Exception, match="No space left"):
        export(forecast(tmp_path).network, repository=tmp_path / "r", model="m", report=fails)
    assert not list((tmp_path / "r").rglob("*"))
