"""The stages of a run: set up, relax, equilibrate, produce."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from asecalc_ml.calculators import make_calculator
from asecalc_ml.errors import AsecalcError, RunError
from asecalc_ml.md_protocols.equilibration import equilibrate, relax
from asecalc_ml.md_protocols.production import Production
from asecalc_ml.md_protocols.provenance import provenance
from asecalc_ml.rundir import RunReader, RunWriter
from asecalc_ml.structures import check_structure, load_structure

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.nve import NVE


def start_run(options: NVE, atoms: Atoms | None, directory: Path, overwrite: bool, quiet: bool) -> RunReader:
    """Make the run directory, and run all stages; see :meth:`ProtocolOptions.run`."""
    atoms = load_structure(options.structure) if atoms is None else _copied(atoms)
    if atoms.calc is None:
        atoms.calc = make_calculator(options.calculator)
    check_runnable(atoms)
    writer = RunWriter.create(directory, overwrite)
    writer.write_options({**options.model_dump(mode="json"), "directory": str(directory)})
    writer.write_provenance(provenance(atoms.calc, options.seed))
    if getattr(atoms.calc, "card", None) is not None:
        writer.write_card(atoms.calc.card)
    writer.write_structure(writer.input_file, atoms)
    return run_stages(options, atoms, writer, quiet)


def run_stages(options: NVE, atoms: Atoms, writer: RunWriter, quiet: bool) -> RunReader:
    """Everything from the input structure on; the same seed gives the same trajectory."""
    with stopping(writer):
        relax(options, atoms, writer, quiet)
        writer.write_structure(writer.start_file, atoms)
        equilibrate(options, atoms, writer, quiet)
        Production(options, atoms, writer).run(quiet)
    return RunReader(writer.path)


def check_runnable(atoms: Atoms) -> None:
    """Refuse what dynamics cannot use: a broken structure, an energy that jumps at the cutoff.

    Raises
    ------
    StructureError, RunError
    """
    check_structure(atoms)
    if not getattr(atoms.calc, "continuous", True):
        raise RunError(
            "the model's energy is discontinuous where an atom crosses the cutoff, so dynamics would not conserve "
            "it; use a model trained with `envelope: true`"
        )


@contextlib.contextmanager
def stopping(writer: RunWriter) -> Iterator[None]:
    """Record why a run stopped, and say where its last good state is."""
    try:
        yield
    except AsecalcError as error:
        writer.event("stopped", reason=str(error))
        raise RunError(f"the run stopped: {error}. What it wrote is in {writer.path}") from error
    except KeyboardInterrupt:
        writer.event("interrupted")
        raise
    except OSError as error:
        raise RunError(
            f"the run stopped, since {writer.path} cannot be written ({error.strerror or error}); make room, then "
            f"go on with `asecalc-md resume {writer.path}`"
        ) from error


def _copied(atoms: Atoms) -> Atoms:
    """A copy with the same calculator, so that the caller's structure is left as it was."""
    copy = atoms.copy()
    copy.calc = atoms.calc
    return copy
