"""MLCalculator: a registered model as an ASE calculator."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    PropertyNotImplementedError,
    all_changes,
    register_calculator_class,
)
from ase.stress import full_3x3_to_voigt_6_stress

from asecalc_ml.calculators.changes import changes
from asecalc_ml.calculators.corrections import correction_calculators, with_terms
from asecalc_ml.config.suggestions import nearest_name
from asecalc_ml.errors import ConfigError, ModelError, StructureError
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.batching import batches_by_atoms
from asecalc_ml.graph.neighbors.skin import DEFAULT_SKIN_A, SkinNeighborList
from asecalc_ml.model.dipoles import dipole_of
from asecalc_ml.model.evaluator import Evaluation, Evaluator
from asecalc_ml.store.card import ModelCard
from asecalc_ml.store.golden import check_golden
from asecalc_ml.store.stored_model import StoredModel
from asecalc_ml.structure.charge_and_spin import charge_and_spin, is_same_state
from asecalc_ml.structure.loading import check_structure

#: Atoms that are computed together by :meth:`MLCalculator.calculate_many`.
BATCH_ATOMS = 512

#: Digits of a model's hash that files carry.
HASH_DIGITS = 16

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
    compile : {"auto", "never", "always"}
        See :class:`asecalc_ml.model.evaluator.Evaluator`.
    neighbors : {"auto", "vesin", "matscipy", "all-pairs"}
        See :func:`asecalc_ml.graph.neighbors.find_pairs`.
    skin_A : float, Å
        How much further than the cutoff pairs are searched for, so that they serve for many steps. It
        changes the time a step takes and no result: :class:`asecalc_ml.graph.neighbors.SkinNeighborList`.

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
    Charge and number of unpaired electrons are read from ``atoms.info["charge"]`` and ``["spin"]``, or else
    summed over the atoms (:mod:`asecalc_ml.structure.charge_and_spin`).
    Stress is given for cells of rank 3, divided by ASE's own volume; a cell of lower rank has none.
    Models of an architecture with partial charges, such as PhysNet, give ``charges`` (e) and, where no
    direction is periodic, ``dipole`` (e Å), that of an ion relative to its centre of mass.

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
    default_parameters = {  # noqa: RUF012
        "device": "cpu",
        "dtype": None,
        "compile": "auto",
        "neighbors": "auto",
        "skin_A": DEFAULT_SKIN_A,
    }

    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(self, model: str | Path, **parameters):
        self._evaluator: Evaluator | None = None
        self._known: Atoms | None = None  # the last structure that was found to be in order
        super().__init__(model=str(model), **parameters)
        stored = self._stored()
        check_golden(stored)
        self.card, self.model_hash = stored.card, stored.hash
        if self.card.partial_charges:
            self.implemented_properties = [*type(self).implemented_properties, "charges", "dipole"]
        self._terms = correction_calculators(self.card.corrections)
        self._pairs = SkinNeighborList(
            self.card.cutoff_A, self.parameters.skin_A, self.parameters.neighbors, stored.device
        )
        self._evaluator = Evaluator(stored, self.parameters.compile)

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that the card's corrections rest on."""
        return tuple(package for term in self._terms for package in getattr(term, "packages", ()))

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

    def todict(self, skip_default=True):
        """Parameters that make the same calculator, the model with its hash: files name the weights."""
        return {**super().todict(skip_default), "model": self._identity()}

    def __reduce__(self):
        return _remade, (type(self), self.todict())

    def check_state(self, atoms, tol=1e-15):
        """What has changed since the last call, to the last bit."""
        return changes(self.atoms, atoms)

    def get_property(self, name, atoms=None, allow_calculation=True):
        """As ASE's, with a message that says what there is."""
        if name not in self.implemented_properties:
            raise PropertyNotImplementedError(
                f"no {name}: model {self.card.name!r} gives {', '.join(self.implemented_properties)}; "
                "ask for one of these, or use another calculator"
            )
        return super().get_property(name, atoms, allow_calculation)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if "stress" in properties and self.atoms.cell.rank < 3:
            raise PropertyNotImplementedError(
                f"stress needs a cell of rank 3; this one has rank {self.atoms.cell.rank}: "
                "give the cell a vector along every direction, or do not ask for stress"
            )
        if "dipole" in properties and self.atoms.pbc.any():
            raise PropertyNotImplementedError(
                "a periodic structure has no dipole: set pbc to false, or do not ask for it"
            )
        found = results_of(self._evaluator(self._next_graph(self.atoms)), self.atoms)
        self.results = with_terms(found, self._terms, self.atoms)

    def calculate_many(self, structures: Iterable[Atoms]) -> list[dict]:
        """Results of many structures, computed in batches.

        Parameters
        ----------
        structures : iterable of Atoms
            They may differ in everything. They are left as they are, and so are the calculator's results.

        Returns
        -------
        list of dict
            Each as ``results`` after a calculation; with ``stress`` where the cell has rank 3.

        Raises
        ------
        StructureError
            As for a single structure.
        """
        found = []
        for batch in batches_by_atoms(structures, BATCH_ATOMS):
            graph = collate([self._new_graph(atoms) for atoms in batch])
            parts = self._evaluator.eagerly(graph).split([len(atoms) for atoms in batch])
            for part, atoms in zip(parts, batch, strict=True):
                found.append(with_terms(results_of(part, atoms), self._terms, atoms))
        return found

    def get_hessian(self, atoms: Atoms) -> np.ndarray:
        """Second derivatives of the energy by automatic differentiation.

        Returns
        -------
        array, shape (3 n_atoms, 3 n_atoms), eV/Å²
            As :meth:`ase.vibrations.VibrationsData.from_2d` takes it.
        """
        hessian = self._evaluator.hessian(self._new_graph(atoms)).cpu().numpy()
        return hessian + sum(term.get_hessian(atoms) for term in self._terms)

    def prepare(self, atoms: Atoms) -> None:
        """Compile the model for structures of this one's size now, unless a package lies in the cache.

        Raises
        ------
        ModelError
            If the model cannot be compiled here.
        """
        self._evaluator.prepare(self._next_graph(atoms.copy()))

    def expect(self, atoms: Atoms, n_calls: int) -> None:
        """Announce how often structures of this one's size will be computed.

        With ``compile="auto"`` a long run is then compiled before its first step and not in its midst.
        """
        self._evaluator.expect(self._next_graph(atoms.copy()), n_calls)

    def checkpoint_state(self) -> dict:
        """What a resumed run needs to go on bit for bit, ready for JSON."""
        return self._evaluator.state()

    def restore_state(self, state: dict) -> None:
        """Go on as the calculator did whose :meth:`checkpoint_state` this is."""
        self._evaluator.restore(state)

    def _stored(self) -> StoredModel:
        parameters = self.parameters
        if parameters.compile not in ("auto", "never", "always"):
            raise ModelError(f"compile is {parameters.compile!r}; use 'auto', 'never' or 'always'")
        return StoredModel.find(parameters.model, parameters.dtype, parameters.device)

    def _identity(self) -> str:
        name = self.parameters.model
        return name if "@" in name else f"{name}@{self.model_hash[:HASH_DIGITS]}"

    def _next_graph(self, atoms: Atoms) -> AtomGraph:
        """Graph of a structure whose pairs are those of the step before where these are still good."""
        known, self._known = self._known, None  # forgotten if this structure turns out to be refused
        if known is None or not _same_composition(atoms, known) or not _is_next_step(atoms, known):
            self._check(atoms)
        pairs = self._pairs.update(atoms.positions, atoms.cell.array, atoms.pbc)
        self._known = atoms
        return AtomGraph.from_pairs(atoms, pairs)

    def _new_graph(self, atoms: Atoms) -> AtomGraph:
        """Graph of a structure that has nothing to do with the others."""
        self._check(atoms)
        return AtomGraph.from_atoms(atoms, self.card.cutoff_A, self.parameters.neighbors)

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
    for key, value, trained in zip(
        ("charge", "spin"), charge_and_spin(atoms), (card.charges, card.spins), strict=True
    ):
        if value not in trained:
            said = f"atoms.info[{key!r}]" if key in atoms.info else f"the {key} that the structure states"
            raise StructureError(
                f"{said} is {value}, and model {card.name!r} was trained on {key} "
                f"{', '.join(map(str, trained))} only; correct it, or use a model trained for it"
            )


def results_of(evaluation: Evaluation, atoms: Atoms) -> dict:
    """ASE's results of one structure from tensors; the one conversion out.

    Raises
    ------
    StructureError
        If they are not finite.
    """
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
    return {**results, **_charges_and_dipole(evaluation, atoms)}


def _charges_and_dipole(evaluation: Evaluation, atoms: Atoms) -> dict:
    """Charges in e where the model has them, and the dipole in e Å of what is not periodic."""
    if len(evaluation.charges) == 0:
        return {}
    charges = evaluation.charges.cpu().numpy()
    found = {"charges": charges}
    if not atoms.pbc.any():
        found["dipole"] = dipole_of(charges, atoms)
    return found


def _remade(kind: type[MLCalculator], parameters: dict) -> MLCalculator:
    return kind(**parameters)


def _same_composition(atoms: Atoms, known: Atoms) -> bool:
    return (
        np.array_equal(atoms.numbers, known.numbers)
        and bool((atoms.pbc == known.pbc).all())
        and is_same_state(atoms, known)
    )


def _is_next_step(atoms: Atoms, known: Atoms) -> bool:
    """Whether everything is finite and near where it was, so that it need not be checked in full."""
    moved = np.abs(atoms.positions - known.positions).max()
    return bool(moved <= JUMP_A and np.isfinite(atoms.cell.array).all())  # no NaN is <= anything


register_calculator_class(MLCalculator.name, MLCalculator)
