"""MLCalculator: a registered model as an ASE calculator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    PropertyNotImplementedError,
    all_changes,
    register_calculator_class,
)
from ase.stress import full_3x3_to_voigt_6_stress

from asecalc_ml.card import ModelCard
from asecalc_ml.errors import ConfigError, ModelError, StructureError
from asecalc_ml.evaluator import Evaluation, Evaluator
from asecalc_ml.golden import check_golden
from asecalc_ml.graph import AtomGraph
from asecalc_ml.model_file import read_model
from asecalc_ml.nearest import nearest_name
from asecalc_ml.registry import Registry
from asecalc_ml.structures import check_structure

#: A displacement from one call to the next that no step of dynamics makes: another structure, checked anew.
JUMP_A = 0.3


class MLCalculator(Calculator):
    """A learned potential for ASE: energies in eV, forces in eV/Å, stress in eV/Å³.

    Parameters
    ----------
    model : str or Path
        Registered name, ``name@hash``, or a model file.
    device : str
        "cpu", "cuda", "cuda:1", ...
    dtype : {"float32", "float64"}, optional
        Type of the potential's arithmetic; the one it was trained in if not given. Geometry and sums
        are float64 in either case.
    mode : {"auto", "eager", "traced"}
        See :class:`asecalc_ml.evaluator.Evaluator`.
    neighbors : {"auto", "vesin", "matscipy", "all-pairs"}
        See :func:`asecalc_ml.neighbors.find_pairs`.

    Attributes
    ----------
    card : ModelCard
    model_hash : str
        SHA-256 of the model file.
    continuous : bool
        Whether the energy is continuous where an atom crosses the cutoff; dynamics needs it.

    Raises
    ------
    ModelError
        If the model is unknown, damaged, or does not reproduce its card.
    ConfigError
        If a parameter is unknown.
    StructureError
        At the first energy of a structure: an element or charge the model was not trained on, overlapping
        atoms, NaN.

    Notes
    -----
    Charge and number of unpaired electrons are read from ``atoms.info["charge"]`` and ``["spin"]``.
    Stress is given for cells of rank 3, divided by ASE's own volume; a cell of lower rank has none.

    Examples
    --------
    >>> from ase.build import molecule
    >>> atoms = molecule("CH3CH2OH")
    >>> atoms.calc = MLCalculator("torchmdnet-ethanol")
    >>> energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    >>> forces.shape
    (9, 3)
    """

    name = "asecalc-ml"
    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012
    default_parameters = {"device": "cpu", "dtype": None, "mode": "auto", "neighbors": "auto"}  # noqa: RUF012

    def __init__(self, model: str | Path, **parameters):
        self._evaluator: Evaluator | None = None
        self._graph: AtomGraph | None = None
        super().__init__(model=str(model), **parameters)
        entry = Registry().find(model)
        loaded, self.card = read_model(entry.path)
        self.model_hash = entry.hash
        self._evaluator = Evaluator(self._prepared(loaded), self.parameters.mode)
        check_golden(self._evaluator.model, self.card, self.model_hash)

    @property
    def continuous(self) -> bool:
        return self.card.continuous

    def set(self, **parameters):
        """Refuse unknown parameters, and changes once the model is loaded."""
        known = ("model", *self.default_parameters)
        for key in sorted(parameters.keys() - set(known)):
            near = nearest_name(key, known)
            hint = f"; did you mean {near!r}?" if near else "."
            raise ConfigError(f"MLCalculator has no parameter {key!r}{hint} It has {', '.join(known)}")
        changed = [key for key, value in parameters.items() if self.parameters.get(key) != value]
        if changed and self._evaluator is not None:
            raise ConfigError(f"{changed[0]} of a loaded model stays as it is; make a new MLCalculator")
        return super().set(**parameters)

    def check_state(self, atoms, tol=1e-15):
        """What changed since the last call; ASE does not look at charge and spin in ``info``."""
        changes = super().check_state(atoms, tol)
        if self.atoms is not None and _charge_and_spin(atoms) != _charge_and_spin(self.atoms):
            changes.append("info")
        return changes

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if "stress" in properties and self.atoms.cell.rank < 3:
            raise PropertyNotImplementedError(
                f"stress needs a cell of rank 3; this one has rank {self.atoms.cell.rank}: "
                "give the cell a vector along every direction, or do not ask for stress"
            )
        graph = self._updated_graph(self.atoms, system_changes)
        self.results = _results(self._evaluator(graph), self.atoms)

    def checkpoint_state(self) -> dict:
        """What a resumed run needs to go on bit for bit, ready for JSON."""
        return self._evaluator.state()

    def restore_state(self, state: dict) -> None:
        """Go on as the calculator did whose :meth:`checkpoint_state` this is."""
        self._evaluator.restore(state)

    def _prepared(self, model):
        parameters = self.parameters
        if parameters.dtype not in (None, "float32", "float64"):
            raise ModelError(f"dtype is {parameters.dtype!r}; use 'float32' or 'float64'")
        if parameters.mode not in ("auto", "eager", "traced"):
            raise ModelError(f"mode is {parameters.mode!r}; use 'auto', 'eager' or 'traced'")
        model.set_dtype(getattr(torch, parameters.dtype or self.card.dtype))
        try:
            return model.to(parameters.device)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(
                f"device {parameters.device!r} cannot be used here ({error}); try 'cpu'"
            ) from error

    def _updated_graph(self, atoms: Atoms, changes) -> AtomGraph:
        """A molecule's pairs never change; anything else is searched anew."""
        known, self._graph = self._graph, None  # forgotten if this structure turns out to be refused
        if known is None or not {"numbers", "pbc", "info"}.isdisjoint(changes):
            self._check(atoms)
            known = None
        elif not _is_next_step(atoms, known):
            check_structure(atoms)
        if known is not None and not atoms.pbc.any() and known.n_edges == len(atoms) * (len(atoms) - 1):
            self._graph = replace(known, positions=torch.from_numpy(atoms.positions.copy()))
        else:
            self._graph = AtomGraph.from_atoms(atoms, self.card.cutoff_A, self.parameters.neighbors)
        return self._graph

    def _check(self, atoms: Atoms) -> None:
        check_structure(atoms)
        check_trained(atoms, self.card)


def check_trained(atoms: Atoms, card: ModelCard) -> None:
    """Refuse elements, charge or spin that the model was not trained on, with a StructureError."""
    unknown = sorted(set(atoms.symbols) - set(card.elements))
    if unknown:
        raise StructureError(
            f"model {card.name!r} was not trained on {', '.join(unknown)}, only on "
            f"{', '.join(card.elements)}: use another model (asecalc-ml models list), or train one"
        )
    for key, trained in (("charge", card.charges), ("spin", card.spins)):
        value = atoms.info.get(key, 0)
        if value not in trained:
            raise StructureError(
                f"atoms.info[{key!r}] is {value}, and model {card.name!r} was trained on {key} "
                f"{', '.join(map(str, trained))} only; correct it, or use a model trained for it"
            )


def _charge_and_spin(atoms: Atoms) -> tuple:
    return atoms.info.get("charge", 0), atoms.info.get("spin", 0)


def _is_next_step(atoms: Atoms, known: AtomGraph) -> bool:
    """Whether everything is finite and near where it was, so that it need not be checked in full."""
    moved = np.abs(atoms.positions - known.positions.numpy()).max()
    return bool(moved <= JUMP_A and np.isfinite(atoms.cell.array).all())  # no NaN is <= anything


def _results(evaluation: Evaluation, atoms: Atoms) -> dict:
    """ASE's results from tensors; the one conversion out."""
    energy = float(evaluation.energy[0])
    results = {
        "energy": energy,
        "free_energy": energy,
        "energies": evaluation.energies.cpu().numpy(),
        "forces": evaluation.forces.cpu().numpy(),
    }
    if not (np.isfinite(energy) and np.isfinite(results["forces"]).all()):
        check_structure(atoms)  # knows the reason, where atoms have run into each other
        raise StructureError(
            f"the model gives energy {energy} eV or forces that are not finite: the structure is far from "
            "anything it was trained on; look at its distances"
        )
    if atoms.cell.rank == 3:
        stress = evaluation.virial[0].cpu().numpy() / atoms.get_volume()
        results["stress"] = full_3x3_to_voigt_6_stress(stress)
    return results


register_calculator_class(MLCalculator.name, MLCalculator)
