"""`statewise import` and `statewise export-triton`: models that come from elsewhere, and models that go there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from statewise.cli.repository import Root
from statewise.reading.problems import BadInput
from statewise.repository import Repository, RepositoryError, check_name

if TYPE_CHECKING:
    from statewise.importing import Asked, Foreign, Imported

VALUES = "A number, numbers with commas between, or a .npy file."


def import_(
    source: Annotated[
        Path, typer.Argument(metavar="FILE|DIR", help="An ONNX file, or a model folder of Triton's.", show_default=False)
    ],
    name: Annotated[str | None, typer.Option(help="The model's name in the repository; a Triton folder brings its own.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="INPUT:OUTPUT, where the names leave it open. Give all, or none.")] = None,
    initial: Annotated[list[str] | None, typer.Option(help=f"STATE=VALUE that sessions begin with, instead of 0. {VALUES}")] = None,
    given: Annotated[list[str] | None, typer.Option(help="A state whose first value Open may give.")] = None,
    constant: Annotated[list[str] | None, typer.Option(help=f"INPUT=DEFAULT, for each session; Open may give it. {VALUES}")] = None,
    fixed: Annotated[list[str] | None, typer.Option(help=f"INPUT=VALUE, the same for all sessions, for ever. {VALUES}")] = None,
    control: Annotated[
        list[str] | None, typer.Option(help="KIND=INPUT[:NO:YES] that the server feeds: start, end, ready or corrid.")
    ] = None,
    lengths: Annotated[str | None, typer.Option(help="The input that takes the timesteps of each row.")] = None,
    dim: Annotated[list[str] | None, typer.Option(help="AXIS=LENGTH of a dynamic axis that is neither batch nor time.")] = None,
    time_axis: Annotated[list[str] | None, typer.Option(help="[TENSOR=]AXIS, or none: one call is one timestep.")] = None,
    batch_axis: Annotated[list[str] | None, typer.Option(help="[TENSOR=]AXIS, or none: sessions are served one by one.")] = None,
    version: Annotated[int, typer.Option(min=0, help="Of a Triton folder: which version; 0 is the newest.")] = 0,
    promote: Annotated[bool, typer.Option(help="New sessions get it; the first version of a model they get anyway.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is found, and publish nothing.")] = False,
    repository: Root = Path("var/repository"),
) -> None:
    """Serve a recurrent model that was not trained here: any ONNX file whose states are explicit inputs and outputs.

    Which output is the next value of which input is proposed from names and shapes, shown, and asked for where two readings are
    possible. The file is run for some carried steps, which the server repeats whenever it loads the version.

    **Examples**

    statewise import gru.onnx --name gru

    statewise import vad.onnx --name vad --state state:stateN --fixed sr=16000 --dim samples=512

    statewise import triton-repository/wakeword
    """
    from statewise.cli import told
    from statewise.importing import Asked, Refused, prepare, publish

    asked = Asked(
        states=told.pairs_of(state or []),
        initial=told.values_of("--initial", initial or []),
        given=tuple(given or []),
        constants=told.values_of("--constant", constant or []),
        fixed=told.values_of("--fixed", fixed or []),
        controls=told.controls_of(control or []),
        lengths=lengths,
        dims=told.lengths_of(dim or []),
        time_axis=told.axes_of("--time-axis", time_axis or []),
        batch_axis=told.axes_of("--batch-axis", batch_axis or []),
    )
    try:
        foreign, asked, called = _read(source, asked, version)
        wanted = _name(name or called)
        imported = prepare(foreign, asked)
    except Refused as refused:
        raise BadInput(f"{source} is not imported: {refused}") from refused
    except OSError as error:
        raise BadInput(f"cannot read {source}: {error.strerror or error}") from error
    _show(imported)
    if dry_run:
        typer.echo(f"nothing was published: without --dry-run this becomes a version of {wanted}")
        return
    number = publish(imported, repository, wanted, promote=promote)
    typer.echo(f"published {wanted}@{number} in {repository}: statewise serve --repository {repository}")


def export_triton(
    model: Annotated[
        str, typer.Argument(metavar="MODEL[@VERSION]", help="A version; without @, what new sessions get.", show_default=False)
    ],
    folder: Annotated[
        Path, typer.Argument(help="Triton's model repository, to write the model's folder into.", show_default=False)
    ],
    repository: Root = Path("var/repository"),
) -> None:
    """Write a version as a model folder for Triton: its ONNX backend keeps the states, as config.pbtxt tells it.

    **Example**

    statewise export-triton demand@3 triton-repository
    """
    import onnx

    from statewise.catalog import LoadError, read_spec
    from statewise.importing import Refused
    from statewise.importing.triton.exporting import exported, write
    from statewise.spec import SpecError

    try:
        published = Repository(repository).named(model)
        plain = onnx.load(str(published.path), load_external_data=False)
        made = exported(published.model, published.version, plain, read_spec(plain))
        place = write(made, folder)
    except (RepositoryError, Refused) as problem:
        raise BadInput(str(problem)) from problem
    except (SpecError, LoadError) as problem:
        raise BadInput(f"{published.path}: {problem}") from problem
    typer.echo(f"wrote {place}: it differs by at most {made.parity_difference:.1e} of the output's scale from {published}")
    for note in made.notes:
        typer.echo(f"  note: {note}")


def _name(name: str | None) -> str:
    if not name:
        raise BadInput("--name: say what the model is called")
    try:
        check_name(name)
    except RepositoryError as problem:
        raise BadInput(f"--name: {problem}") from problem
    return name


def _read(source: Path, asked: Asked, version: int) -> tuple[Foreign, Asked, str | None]:
    """Returns the file, what is told of it in all, and the name that it brings."""
    from statewise.importing import read
    from statewise.importing.triton.folder import read_folder

    if not source.is_dir():
        if version:
            raise BadInput(
                "--version: it chooses among the versions of a Triton folder; in the repository, the next number is taken"
            )
        return read(source), asked, None
    folder = read_folder(source, version)
    foreign = read(folder.file)
    folder.check(foreign)
    typer.echo(f"read {folder.file}")
    for field in folder.left:
        typer.echo(f"  not carried over: {field}")
    mine = {each.name: getattr(asked, each.name) for each in dataclasses.fields(asked) if getattr(asked, each.name)}
    return foreign, dataclasses.replace(folder.asked, **mine), folder.name


def _show(imported: Imported) -> None:
    from statewise.importing.table import facts, found

    Console().print(found(imported))
    for line in facts(imported):
        typer.echo(line)
