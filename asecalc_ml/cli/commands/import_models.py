"""`asecalc-ml import`: checkpoints of other packages become registered models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from asecalc_ml import config
from asecalc_ml.cli.app import App
from asecalc_ml.cli.arguments import OPEN, Quiet, override
from asecalc_ml.potentials.importing import SchNetPackImport, TorchMDNetImport
from asecalc_ml.potentials.importing.options import ImportOptions

if TYPE_CHECKING:
    from asecalc_ml.store.registry import Entry

Import = TypeVar("Import", bound=ImportOptions)

app = App(no_args_is_help=True, help="Make a checkpoint of another package a registered model.")

Name = Annotated[str, typer.Argument(help="Name in the registry.")]
Trust = Annotated[bool, typer.Option("--trust", help="Run Python code that the file holds.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace a model of the same name.")]


def _command(name: str, model: type[ImportOptions]) -> Callable[[Callable], Callable]:
    """Register a command whose help lists the options of the import."""
    options = "\n\n".join(
        f"--{key.replace('_', '-')}: {field.description}" for key, field in model.model_fields.items()
    )

    def decorate(function: Callable) -> Callable:
        return app.command(name, context_settings=OPEN, epilog=f"Of the model:\n\n{options}")(function)

    return decorate


@_command("torchmd-net", TorchMDNetImport)
def torchmd_net(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Checkpoint (.ckpt) of torchmd-net.")],
    name: Name,
    trust: Trust = False,
    replace: Replace = False,
    quiet: Quiet = False,
) -> None:
    """Import an equivariant transformer, a TensorNet or a graph network of torchmd-net.

    torchmd-net model.ckpt my-model --energy-unit eV --length-unit Angstrom --elements H C O
    """
    options = _options(context, TorchMDNetImport)
    _tell(options.run(file, name, trust, replace), quiet)


@_command("schnetpack", SchNetPackImport)
def schnetpack(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Training directory of schnetpack 2.x.")],
    name: Name,
    trust: Trust = False,
    replace: Replace = False,
    quiet: Quiet = False,
) -> None:
    """Import a SchNet, PaiNN or SO3net of schnetpack.

    schnetpack runs/ab12 my-model --trust --energy-unit eV --length-unit Angstrom --elements H C O
    """
    options = _options(context, SchNetPackImport)
    _tell(options.run(directory, name, trust, replace), quiet)


def _options(context: typer.Context, model: type[Import]) -> Import:
    return config.parse_options(override({}, _with_lists(context.args)), model, "import")


def _with_lists(arguments: list[str]) -> list[str]:
    """`--elements H C O` as one value, `--elements` and "H C O"; a negative charge is no option."""
    joined: list[str] = []
    for argument in arguments:
        after_name = not joined or (joined[-1].startswith("--") and "=" not in joined[-1])
        if argument.startswith("--") or after_name:
            joined.append(argument)
        else:
            joined[-1] += f" {argument}"
    return joined


def _tell(entry: Entry, quiet: bool) -> None:
    if quiet:
        return
    typer.echo(f"Registered {entry.name} ({entry.hash[:12]}) in {entry.path.parent}")
    for note in entry.card.options["imported"]["notes"]:
        typer.echo(f"Note: {note}")
