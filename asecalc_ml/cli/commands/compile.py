"""`asecalc-ml compile`: machine code ahead of time, so that later processes start quickly."""

from __future__ import annotations

from typing import Annotated

import typer

from asecalc_ml.cli.arguments import Device, Quiet
from asecalc_ml.cli.process import set_threads, show_messages
from asecalc_ml.errors import ModelError


def compile_model(
    name: Annotated[str, typer.Argument(help="Name of a registered model, name@hash, or a model file.")],
    atoms: Annotated[
        list[str] | None,
        typer.Option(help="Structure (ethanol, a file) to compile for; repeatable (default: the card's)"),
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or float64 (default: as it was trained)")] = None,
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the runs that it is for.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Compile a model for structures of given sizes, once on a machine.

    Runs and scripts with the same model, versions, hardware, type and threads use it from their first step.
    """
    set_threads(threads)
    show_messages(quiet)
    from asecalc_ml.calculators.ml_calculator import MLCalculator
    from asecalc_ml.store.golden import golden_atoms
    from asecalc_ml.structure.loading import load_structure

    _check_cache()
    calculator = MLCalculator(name, dtype=dtype, device=device)
    structures = [load_structure(source) for source in atoms or ()] or [golden_atoms(calculator.card.golden)]
    for structure in structures:
        calculator.prepare(structure)
        if not quiet:
            typer.echo(f"{calculator.card.name} is ready for {len(structure)} atoms ({structure.symbols})")


def _check_cache() -> None:
    """Refuse to compile what could not be kept: no later process would start quickly."""
    from asecalc_ml.files.user_cache import ANOTHER_CACHE, cache_folder, is_writable

    folder = cache_folder("compiled")
    if not is_writable(folder):
        raise ModelError(
            f"compiled models cannot be kept in {folder}, which cannot be written to",
            name=str(folder),
            remedy=ANOTHER_CACHE,
        )
