"""Going on with a run that was interrupted, bit for bit where the calculator is deterministic."""

from __future__ import annotations

from pathlib import Path

from asecalc_ml.calculators import make_calculator
from asecalc_ml.config import parse_options
from asecalc_ml.errors import RunError
from asecalc_ml.md_protocols.checkpoint import Checkpoint
from asecalc_ml.md_protocols.engine import check_runnable, run_stages, stopping
from asecalc_ml.md_protocols.production import Production
from asecalc_ml.md_protocols.provenance import check_same
from asecalc_ml.plugins import get
from asecalc_ml.rundir import RunReader, RunWriter


def resume_run(
    directory: str | Path, allow_different: bool = False, quiet: bool = False, calculator=None
) -> RunReader:
    """Go on after the last checkpoint; without one, from the first step with the same seed.

    Parameters
    ----------
    directory : str or Path
    allow_different : bool
        Go on although model or versions have changed.
    quiet : bool
        Show no progress.
    calculator : ASE calculator, optional
        For a run that was started in Python with a calculator no name stands for.

    Raises
    ------
    RunError
        If the run is finished, was made with another model or other versions, or is damaged.
    """
    reader, writer = RunReader(directory), RunWriter(directory)
    if reader.is_finished:
        raise RunError(f"the run in {directory} is finished; start another with a new `directory`")
    options = parse_options(
        reader.options, get("protocols", reader.options.get("protocol", "")), source=str(reader.protocol_file)
    )
    calculator = calculator or make_calculator(options.calculator)
    if not allow_different:
        check_same(reader.provenance, calculator)
    if not reader.checkpoint_file.exists():
        return _start_over(options, reader, writer, calculator, quiet)
    checkpoint = Checkpoint.read(reader.checkpoint_file)
    atoms = reader.atoms
    atoms.calc = calculator
    checkpoint.restore(atoms)
    writer.cut_back(checkpoint.step, n_frames=checkpoint.step // options.write_every + 1)
    writer.event("resumed", step=checkpoint.step)
    with stopping(writer):
        Production(options, atoms, writer, checkpoint.step).run(quiet)
    return RunReader(directory)


def _start_over(options, reader: RunReader, writer: RunWriter, calculator, quiet: bool) -> RunReader:
    atoms = reader.input
    atoms.calc = calculator
    check_runnable(atoms)
    writer.event("started over")
    for file in (writer.thermo_file, writer.trajectory_file):
        file.unlink(missing_ok=True)
    return run_stages(options, atoms, writer, quiet)
