"""From options to a running engine: a new run."""

from __future__ import annotations

import contextlib
import platform
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from asecalc_ml import plugins
from asecalc_ml.calculators.composite import model_cards
from asecalc_ml.calculators.factory import (
    describe_calculator,
    make_calculator,
    modules_named,
    modules_of,
    versions_of,
)
from asecalc_ml.config.options import dump_yaml, parse_options
from asecalc_ml.contracts import plugin_code
from asecalc_ml.errors import (
    AnalysisError,
    AsecalcError,
    ConfigError,
    PluginError,
    RunError,
    StructureError,
)
from asecalc_ml.local_modules import folders_of
from asecalc_ml.md_protocols.engine.checkpoint import State
from asecalc_ml.md_protocols.engine.engine import Engine
from asecalc_ml.md_protocols.integrators import thermostat_choice
from asecalc_ml.md_protocols.integrators.degrees_of_freedom import degrees_of_freedom
from asecalc_ml.model.compile.no_compiling import without_compiling
from asecalc_ml.runs import (
    CARD,
    MEMBER_CARDS,
    PROTOCOL,
    PROVENANCE,
    START,
    TRAJECTORY_SUFFIXES,
    EventKind,
    RunReader,
    RunWriter,
    check_free,
    check_writable,
    now,
)
from asecalc_ml.runs.further_files import FurtherFiles
from asecalc_ml.runs.trajectories import lost_constraints
from asecalc_ml.sources import sources_of_modules, sources_of_plugins
from asecalc_ml.structure.constraints import unknown
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.structure.rigid_motions import is_linear
from asecalc_ml.terminal.progress import Progress, make_progress
from asecalc_ml.terminal.tracking import tracking
from asecalc_ml.versions import installed_versions

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.options import ProtocolOptions
    from asecalc_ml.md_protocols.transfer.helpers import Helper

FORMATS_THAT_KEEP = (
    "trajectory_format {} does not keep these constraints: structures read from the trajectory lack them. "
    "Formats traj and h5md keep them"
)


def start_run(
    options: ProtocolOptions, atoms: Atoms | None, directory: str | Path | None, overwrite: bool, quiet: bool
) -> RunReader:
    """Run a protocol from its beginning; see :meth:`ProtocolOptions.run`."""
    directory = directory_of(options, directory)
    options, atoms = examined(options, atoms, directory, overwrite)
    with threads(options):
        announce(options, atoms)
        state = first_state(options, atoms)
        writer = RunWriter.create(directory, overwrite, options.frame_format)
        with contextlib.closing(writer):
            write_beginning(options.model_copy(update={"directory": str(directory)}), state, writer)
            _warn_of_lost_constraints(options, atoms, writer)
            return drive(options, state, writer, quiet)


def check_run(
    options: ProtocolOptions, atoms: Atoms | None, directory: str | Path | None, overwrite: bool
) -> Atoms:
    """Do what :func:`start_run` does before its first step; see :meth:`ProtocolOptions.check`."""
    with without_compiling():
        options, atoms = examined(options, atoms, directory_of(options, directory), overwrite)
        with threads(options):
            first_state(options, atoms)
    return atoms


def directory_of(options: ProtocolOptions, directory: str | Path | None) -> Path:
    """The run directory: the one given, else that of the options, else one of a name that tells."""
    return Path(directory or options.directory or options.default_directory())


def examined(
    options: ProtocolOptions, atoms: Atoms | None, directory: Path, overwrite: bool
) -> tuple[ProtocolOptions, Atoms]:
    """Options and the structure with its calculator, if a run may begin; see :meth:`ProtocolOptions.check`.

    What the options leave to be chosen by the structure is chosen.
    """
    check_free(directory, overwrite)
    check_writable(directory)
    atoms = prepare(options, atoms)
    options = thermostat_choice.for_structure(options, atoms)
    FurtherFiles(directory).check_free(options.plan().files or ())
    with plugin_code(f"{type(options).__name__}.check_start()"):
        options.check_start(atoms)
    check_analyses(options, atoms)
    return options, atoms


def check_analyses(options: ProtocolOptions, atoms: Atoms) -> None:
    """Refuse analyses that could measure nothing in the run that is planned.

    Raises
    ------
    AnalysisError
        With the name of the analysis.
    """
    plan = options.plan() if options.analyses else None
    for name, given in (options.analyses or {}).items():
        analysis = parse_options(given or {}, plugins.get("analyses", name), f"analysis {name}")
        try:
            with plugin_code("a check before the run"):
                analysis.check_start(atoms)
                analysis.check_plan(plan)
                doubts = list(analysis.doubts(atoms, plan))
        except (AnalysisError, PluginError) as error:
            raise type(error)(f"analysis {name}: {error}") from error
        for doubt in doubts:
            warnings.warn(f"analysis {name}: {doubt}", stacklevel=2)


def _warn_of_lost_constraints(options: ProtocolOptions, atoms: Atoms, writer: RunWriter) -> None:
    """Name the constraints that the trajectory, or every file, does not keep."""
    everywhere = lost_constraints(atoms, ".traj")
    there = lost_constraints(atoms, TRAJECTORY_SUFFIXES[options.frame_format])
    only_there = [name for name in there if name not in everywhere]
    for names, text in (
        (everywhere, "no file keeps these constraints: the run cannot be resumed with them"),
        (only_there, FORMATS_THAT_KEEP.format(options.frame_format)),
    ):
        if names:
            message = f"{', '.join(sorted(set(names)))}: {text}"
            writer.event(EventKind.WARNING, message)
            Progress().warn(message)


def prepare(options: ProtocolOptions, atoms: Atoms | None, calculator: Any = None) -> Atoms:
    """A checked copy of the structure with its calculator."""
    if atoms is None and options.structure is None:
        raise ConfigError(
            "no structure: add `structure: NAME` (ethanol, smiles:CCO, a file), or pass atoms in Python"
        )
    if not (atoms is None or isinstance(atoms, Atoms)):
        raise StructureError(
            f"atoms is a {type(atoms).__name__}, not ASE's Atoms: protocols move atoms themselves. Pass the "
            "atoms that a filter holds (filter.atoms)"
        )
    structure = load_structure(options.structure if atoms is None else atoms)
    own = None if atoms is None else atoms.calc
    structure.calc = calculator or (make_calculator(options.calculator) if options.calculator else own)
    if structure.calc is None:
        raise ConfigError("no calculator: add `calculator: NAME`, or pass atoms with one in Python")
    return structure


@contextlib.contextmanager
def threads(options: ProtocolOptions) -> Iterator[None]:
    """Threads of OpenMP, and of torch where it is loaded, as the options say; as found afterwards.

    OpenMP's are those of libraries that are loaded by now, such as that of GFN2-xTB.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(options.threads, user_api="openmp"), _torch_threads(options.threads):
        yield


def _torch_threads(number: int) -> contextlib.AbstractContextManager:
    if "torch" not in sys.modules:
        return contextlib.nullcontext()
    from asecalc_ml.threads import torch_threads

    return torch_threads(number)


def generator(options: ProtocolOptions) -> np.random.Generator:
    """The source of every random number of a run."""
    return np.random.Generator(np.random.PCG64(options.seed))


def announce(options: ProtocolOptions, atoms: Atoms) -> None:
    """Tell the calculator how many steps will come: one that compiles does so before a long run."""
    if hasattr(atoms.calc, "expect"):
        atoms.calc.expect(atoms, sum(stage.n_steps for stage in options.checked_stages()))


def first_state(options: ProtocolOptions, atoms: Atoms) -> State:
    """The state at the beginning, with energy and forces of the structure.

    Raises
    ------
    StructureError
        If the calculator cannot evaluate the structure, or what it finds is not finite.
    """
    state = State(atoms, generator(options), linear=is_linear(atoms))
    if not unknown(atoms) and degrees_of_freedom(atoms, state.linear) == 0:
        raise StructureError("nothing can move: it takes two atoms at least, and not all of them fixed")
    try:
        state.forces = atoms.get_forces(md=True)
        state.energy = float(atoms.get_potential_energy())
    except AsecalcError:
        raise
    except Exception as error:  # a calculator may raise anything
        text = f"the calculator cannot evaluate the structure: {error or type(error).__name__}"
        raise StructureError(text) from error
    if not (np.isfinite(state.forces).all() and np.isfinite(state.energy)):
        raise StructureError(
            f"energy ({state.energy} eV) or forces of the starting structure are not finite: look at its "
            "distances, and whether the calculator knows its elements"
        )
    return state


def drive(
    options: ProtocolOptions, state: State, writer: RunWriter, quiet: bool, allow_different: bool = False
) -> RunReader:
    """Run all stages that are left, and note the end."""
    progress = make_progress(quiet)
    try:
        engine = Engine(options, state, writer, progress, allow_different)
        with ending_on_sigterm(engine), _tracked(options, writer):
            engine.run(options.checked_stages())
    except KeyboardInterrupt:
        with contextlib.suppress(RunError):  # a full disk; that it was interrupted is known then all the same
            writer.event(EventKind.INTERRUPTED, "interrupted", stage=state.stage, step=state.step)
        raise
    finally:
        progress.close()
    return finish(writer)


@contextlib.contextmanager
def _tracked(options: ProtocolOptions, writer: RunWriter) -> Iterator[None]:
    began = RunReader(writer.directory).read_provenance()["started"]
    config = options.model_dump(mode="json")
    with tracking(options.wandb, writer.directory, began, config) as writer.tracker:
        yield


def finish(writer: RunWriter) -> RunReader:
    """Note that a run came to its planned end."""
    run = RunReader(writer.directory)
    writer.write_json(PROVENANCE, run.read_provenance() | {"finished": now()})
    return run.reread()


@contextlib.contextmanager
def ending_on_sigterm(engine: Engine | Helper) -> Iterator[None]:
    """Let the run pause between two steps when the system asks the process to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(signal_number: int, frame: Any) -> None:
        engine.terminated = True

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def write_beginning(options: ProtocolOptions, state: State, writer: RunWriter) -> None:
    """Everything that a resumed run needs; protocol.yaml comes last and says that all is there."""
    atoms = state.atoms
    writer.declare(options.plan().files or ())
    writer.write_structure(START, atoms)
    cards = [card.model_dump(mode="json") for card in model_cards(atoms.calc)]
    if getattr(atoms.calc, "members", ()):
        writer.write_json(MEMBER_CARDS, {"cards": cards})
    elif cards:
        writer.write_json(CARD, cards[0])
    writer.write_json(PROVENANCE, provenance(options, atoms))
    writer.write(PROTOCOL, dump_yaml(options), sync=True)


def provenance(options: ProtocolOptions, atoms: Atoms) -> dict[str, Any]:
    """What a run rests on."""
    return {
        "protocol": options.protocol,
        "started": now(),
        "finished": None,
        "formula": atoms.get_chemical_formula(),
        "calculator": describe(atoms.calc),
        "versions": versions(options, atoms.calc),
        "module_folders": folders_of([*modules_of(atoms.calc), *_named(options)]),
        "machine": machine(),
        "constraints": [type(one).__name__ for one in atoms.constraints],
        "seed": options.seed,
        "threads": options.threads,
        "frame_interval_fs": options.frame_interval_fs,
        "options": options.model_dump(mode="json"),
        **options.plan().statement,
    }


def describe(calculator: Any) -> dict[str, Any]:
    """The calculator's description; its versions are among those of the run."""
    description = describe_calculator(calculator)
    del description["versions"]
    return description


def versions(options: ProtocolOptions, calculator: Any) -> dict[str, str]:
    """Versions and sources that can change a run.

    Versions are those of the calculator, numpy and, where it is loaded, torch. Sources are those of other
    parties' code behind calculator, protocol and analyses, see :mod:`asecalc_ml.sources`.
    """
    packages = ["numpy", *(["torch"] if "torch" in sys.modules else [])]
    analyses = options.default_analyses if options.analyses is None else options.analyses
    protocols = (options.protocol, *options.further_protocols)
    chosen = [*(("protocols", name) for name in protocols), *(("analyses", name) for name in analyses)]
    return {
        "python": platform.python_version(),
        **installed_versions(packages),
        **versions_of(calculator),
        **sources_of_plugins(chosen),
        **sources_of_modules(_named(options)),
    }


def _named(options: ProtocolOptions) -> list[str]:
    """Modules in the names of all calculators of a run."""
    names = ("calculator", "more_calculators", "reference")
    return modules_named([getattr(options, name, None) for name in names])


def machine() -> dict[str, str]:
    """The platform and the name of its processor."""
    return {"platform": platform.platform(), "cpu": _cpu()}


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
