"""The wheel that is published: both packages whole, typed, licensed, and nothing else."""

import re
import zipfile
from email import message_from_string
from importlib.metadata import version
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
SOURCES = {"statewise": ROOT / "service" / "statewise", "statewise_models": ROOT / "models" / "statewise_models"}
INFO = f"statewise-{version('statewise')}.dist-info"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built here and now: its files by name."""
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    with zipfile.ZipFile(built) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_it_is_for_every_platform(tmp_path):
    """One wheel serves all: it is pure Python."""
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    assert Path(built).name == f"statewise-{version('statewise')}-py3-none-any.whl"


def test_it_holds_both_packages_and_nothing_else(wheel):
    """Every module, stub, template, marker and file of the console's page is there; no test, note, cache or data is."""
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in SOURCES.items()
        for path in folder.rglob("*")
        if path.suffix in {".py", ".pyi", ".typed", ".jinja", ".html", ".css", ".js", ".svg"}
    }
    assert {name for name in wheel if not name.startswith(INFO)} == expected


def test_both_packages_are_typed(wheel):
    """Type checkers of those who install it read the annotations."""
    assert {"statewise/py.typed", "statewise_models/py.typed"} <= set(wheel)


def test_its_metadata_tell_licence_python_and_entry_points(wheel):
    """The licence is named and included; the command and the mounted `train` are declared."""
    assert {name.removeprefix(f"{INFO}/") for name in wheel if name.startswith(INFO)} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
    }
    metadata = message_from_string(wheel[f"{INFO}/METADATA"].decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert wheel[f"{INFO}/entry_points.txt"].decode().split() == [
        *("[console_scripts]", "statewise", "=", "statewise.cli:main"),
        *("[statewise.commands]", "evaluate", "=", "statewise_models.cli.evaluate:app"),
        *("memory", "=", "statewise_models.cli.memory:app"),
        *("train", "=", "statewise_models.cli:train"),
    ]


def test_its_licence_is_the_whole_of_apache_2(wheel):
    """The text is the Apache Software Foundation's, from its title to its appendix."""
    text = wheel[f"{INFO}/licenses/LICENSE"].decode()
    assert re.match(r"\s+Apache License\s+Version 2\.0, January 2004\s+http://www\.apache\.org/licenses/", text)
    assert re.findall(r"^   (\d)\. ", text, re.MULTILINE) == list("123456789")
    assert "END OF TERMS AND CONDITIONS" in text
    assert "APPENDIX: How to apply the Apache License to your work." in text


def test_nothing_in_it_names_the_machine_that_built_it(wheel):
    """No path of a developer's machine travels with the package."""
    home = str(ROOT).encode()
    assert not [name for name, content in wheel.items() if home in content]
