"""`statewise models` and `statewise promote`: the repository as files, no server needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from statewise.repository import Repository, RepositoryError
from statewise.spec import TensorSpec

HEADINGS = ("model", "versions", "task", "cell", "parameters", "inputs → outputs")
Root = Annotated[Path, typer.Option("--repository", help="The folder of models.", envvar="STATEWISE_REPOSITORY")]


def models(repository: Root = Path("var/repository")) -> None:
    """List the models in the repository: versions, which one new sessions get, and what they are."""
    place = Repository(repository)
    names = place.models()
    if not names:
        typer.echo(f"no models in {repository}: `statewise train --help` and `statewise import --help` tell how to make one")
        return
    table = Table(*HEADINGS, box=box.SIMPLE_HEAD, caption="* what new sessions get", caption_justify="left")
    for name in names:
        table.add_row(escape(name), *_described(place, name))
    Console().print(table)


def promote(
    model: Annotated[str, typer.Argument(help="The model.")],
    version: Annotated[int, typer.Argument(help="The version that new sessions get from now on.")],
    repository: Root = Path("var/repository"),
) -> None:
    """Choose the version that new sessions get; open sessions stay on theirs, and the server needs no restart."""
    Repository(repository).promote(model, version)
    typer.echo(f"new sessions of {model} get version {version}")


def rollback(
    model: Annotated[str, typer.Argument(help="The model.")],
    repository: Root = Path("var/repository"),
) -> None:
    """Give new sessions what they got before the last promotion; open sessions stay where they are, without an error."""
    typer.echo(f"new sessions of {model} get version {Repository(repository).rollback(model)} again")


def canary(
    model: Annotated[str, typer.Argument(help="The model.")],
    version: Annotated[int | None, typer.Argument(help="The version on trial; none ends the trial.", show_default=False)] = None,
    share: Annotated[float, typer.Option(help="Of new sessions that get it: more than 0, at most 1.")] = 0.1,
    repository: Root = Path("var/repository"),
) -> None:
    """Give a share of new sessions another version, chosen by their ids, or end that."""
    Repository(repository).set_canary(model, version, share)
    typer.echo(f"{share:.0%} of new sessions of {model} get version {version}" if version else f"{model} has no canary any more")


def _described(place: Repository, model: str) -> tuple[str, ...]:
    """Returns the versions and what the default's spec says; a model that cannot be read says so in its row."""
    import onnx
    from google.protobuf.message import DecodeError

    from statewise.catalog import LoadError, read_spec
    from statewise.spec import SpecError

    try:
        serving = place.serving(model)
        spec = read_spec(onnx.load(str(place.path(model, serving.default)), load_external_data=False))
    except (RepositoryError, LoadError, SpecError, DecodeError, ValueError, OSError) as error:
        return (", ".join(map(str, place.versions(model))), "—", "—", "—", f"[red]{escape(str(error))}[/]")
    marks = {serving.canary: f" ({serving.share:.0%})", serving.default: "*"}
    versions = ", ".join(f"{version}{marks.get(version, '')}" for version in place.versions(model))
    parameters = f"{spec.about['parameters']:,}" if "parameters" in spec.about else "?"
    tensors = f"{_named(spec.inputs)} → {_named(spec.outputs)}"
    if spec.batch:
        tensors += "; sessions are served one by one" if spec.batch == 1 else f"; at most {spec.batch} sessions a run"
    if spec.constants:
        tensors += f"; given at Open: {', '.join(_one(each.name, each.features) for each in spec.constants)}"
    return (
        versions,
        spec.task or "",
        str(spec.about.get("cell", "imported" if "imported_from" in spec.about else "?")),
        parameters,
        escape(tensors),
    )


def _named(tensors: tuple[TensorSpec, ...]) -> str:
    """Names tensors and their features; `next promo` is one whose value of the next timestep is sent."""
    return ", ".join(_one(tensor.name, _when(tensor)) if tensor.features else _sized(tensor) for tensor in tensors)


def _sized(tensor: TensorSpec) -> str:
    return f"{tensor.name}[{', '.join(map(str, tensor.shape))}]" if tensor.shape else tensor.name


def _when(tensor: TensorSpec) -> tuple[str, ...]:
    pairs = zip(tensor.features, tensor.ahead or (0,) * len(tensor.features), strict=True)
    return tuple(f"next {feature}" if ahead else feature for feature, ahead in pairs)


def _one(name: str, features: tuple[str, ...]) -> str:
    return f"{name}({', '.join(features)})" if features else name
