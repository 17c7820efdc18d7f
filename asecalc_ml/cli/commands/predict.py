"""`asecalc-ml predict`: what a model says of structures, as a table."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asecalc_ml import config
from asecalc_ml.cli.arguments import Device, Processes, Quiet
from asecalc_ml.cli.process import set_threads, show_messages
from asecalc_ml.cli.structures import read_structures
from asecalc_ml.errors import ConfigError
from asecalc_ml.files.writing import check_output, write_whole

if TYPE_CHECKING:
    from ase import Atoms

SUFFIX = ".csv"


def predict(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a registered model, name@hash, a model file, or a calculator as in YAML, such as "
            '"{committee: {members: [first, second]}}".'
        ),
    ],
    files: Annotated[
        list[str],
        typer.Argument(help="Structures: files (all their frames), patterns in quotes, names, smiles:CCO."),
    ],
    output: Annotated[Path | None, typer.Option(help="CSV file to write (default: the terminal).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each process.")] = 1,
    processes: Processes = 1,
    quiet: Quiet = False,
) -> None:
    """Predict a model's quantities for structures: a line for each, a column for each component.

    A committee adds standard deviations. The file appears whole or not at all.
    """
    if output is not None:
        check_output(output, [SUFFIX], overwrite=overwrite)
    set_threads(threads)
    show_messages(quiet)
    from asecalc_ml.calculators.batches.predict import predict as predict_values
    from asecalc_ml.calculators.factory import make_calculator

    on_device = {} if device == "cpu" else {"device": device}  # calculators of other packages have none
    calculator = make_calculator(config.parse_value(name), **on_device)
    predictions = predict_values(calculator, _located(files), quiet or output is None, processes)
    if output is None:
        typer.echo(predictions.as_csv(), nl=False)
        return
    write_whole(output, predictions.as_csv())
    if not quiet:
        predicted = ", ".join(map(str, predictions.quantities))
        typer.echo(f"Wrote {output}: {len(predictions.places)} structures, {predicted}")


def _located(files: list[str]) -> dict[str, Atoms]:
    """Structures by file and number; a source with one structure by its name alone."""
    located: dict[str, Atoms] = {}
    for source in (match for given in files for match in _matching(given)):
        structures = read_structures(source)
        places = [source] if len(structures) == 1 else [f"{source}@{k}" for k in range(len(structures))]
        for place in places:
            if place in located:
                raise ConfigError(
                    f"{source} is named twice;", name=source, value=source, remedy="name each source once"
                )
        located |= zip(places, structures, strict=True)
    return located


def _matching(source: str) -> list[str]:
    """The files that a pattern matches, sorted by name; anything else as it is."""
    is_pattern = glob.has_magic(source) and not source.startswith("smiles:") and not Path(source).exists()
    return sorted(glob.glob(source, recursive=True)) or [source] if is_pattern else [source]
