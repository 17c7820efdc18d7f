"""Everything before the first step: the checks of structure, options and analyses, and the first state."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from asecalc_ml import plugins
from asecalc_ml.calculators.factory import make_calculator
from asecalc_ml.calculators.protocol import need_energies, offered
from asecalc_ml.config.options import parse_options
from asecalc_ml.contracts import plugin_code
from asecalc_ml.errors import AnalysisError, AsecalcError, ConfigError, PluginError, StructureError
from asecalc_ml.md_protocols.engine.checkpoint import State
from asecalc_ml.md_protocols.integrators import thermostat_choice
from asecalc_ml.md_protocols.integrators.degrees_of_freedom import degrees_of_freedom
from asecalc_ml.runs import check_free, check_writable
from asecalc_ml.runs.further_files import FurtherFiles
from asecalc_ml.structure.constraints import unknown
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.structure.rigid_motions import is_linear

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.options import ProtocolOptions


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
    for doubt in options.doubts():
        warnings.warn(doubt, stacklevel=2)
    FurtherFiles(directory).check_free(options.plan().files or ())
    with plugin_code(f"{type(options).__name__}.check_start()"):
        options.check_start(atoms)
    check_analyses(options, atoms)
    return options, atoms


def prepare(options: ProtocolOptions, atoms: Atoms | None, calculator: Any = None) -> Atoms:
    """A checked copy of the structure with its calculator."""
    if atoms is None and options.structure is None:
        raise ConfigError(
            "no structure",
            name="structure",
            remedy="add `structure: NAME` (ethanol, smiles:CCO, a file), or pass atoms in Python",
        )
    if not (atoms is None or isinstance(atoms, Atoms)):
        raise StructureError(
            f"atoms is a {type(atoms).__name__}, not ASE's Atoms: protocols move atoms themselves.",
            name="atoms",
            value=type(atoms).__name__,
            allowed=["Atoms"],
            remedy="Pass the atoms that a filter holds (filter.atoms)",
        )
    structure = load_structure(options.structure if atoms is None else atoms)
    own = None if atoms is None else atoms.calc
    structure.calc = calculator or (make_calculator(options.calculator) if options.calculator else own)
    if structure.calc is None:
        raise ConfigError(
            "no calculator",
            name="calculator",
            remedy="add `calculator: NAME`, or pass atoms with one in Python",
        )
    need_energies(structure.calc, f"Protocol {options.protocol}")
    return structure


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
            raise error.at(f"analysis {name}") from error
        for doubt in doubts:
            warnings.warn(f"analysis {name}: {doubt}", stacklevel=2)


def announce(options: ProtocolOptions, atoms: Atoms) -> None:
    """Tell the calculator how many steps will come: one that compiles does so before a long run."""
    n_steps = sum(stage.n_steps for stage in options.checked_stages())
    with plugin_code(f"{type(atoms.calc).__name__}.expect()"):
        offered(atoms.calc).expect(atoms, n_steps)


def first_state(options: ProtocolOptions, atoms: Atoms) -> State:
    """The state at the beginning, with energy and forces of the structure.

    Raises
    ------
    StructureError
        If the calculator cannot evaluate the structure, or what it finds is not finite.
    """
    state = State(atoms, generator(options), linear=is_linear(atoms))
    if not unknown(atoms) and degrees_of_freedom(atoms, state.linear) == 0:
        raise StructureError(
            "nothing can move",
            value=len(atoms),
            remedy="it takes two atoms at least, and not all of them fixed",
        )
    try:
        state.forces = atoms.get_forces(md=True)
        state.energy = float(atoms.get_potential_energy())
    except AsecalcError:
        raise
    except Exception as error:  # a calculator may raise anything
        reason = str(error) or type(error).__name__
        raise StructureError(
            f"the calculator cannot evaluate the structure: {reason}", name="calculator", value=reason
        ) from error
    if not (np.isfinite(state.forces).all() and np.isfinite(state.energy)):
        raise StructureError(
            f"energy ({state.energy} eV) or forces of the starting structure are not finite",
            name="structure",
            value=state.energy,
            remedy="look at its distances, and whether the calculator knows its elements",
        )
    return state


def generator(options: ProtocolOptions) -> np.random.Generator:
    """The source of every random number of a run."""
    return np.random.Generator(np.random.PCG64(options.seed))
