"""MLCalculator: a registered model as an ASE calculator."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    PropertyNotImplementedError,
    all_changes,
    register_calculator_class,
)
from ase.data import chemical_symbols
from ase.outputs import Properties
from torch import Tensor

from asecalc_ml.calculators.changes import changes
from asecalc_ml.calculators.corrections import correction_calculators, with_terms
from asecalc_ml.calculators.factory import named_spec
from asecalc_ml.calculators.protocol import Spec, need_energies, no_energies, offered
from asecalc_ml.calculators.results import (
    Results,
    named_by_ase,
    need_cell,
    need_structure,
    results_of,
    stresses_of,
    values_as_results,
)
from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import ConfigError, ModelError, StructureError
from asecalc_ml.graph.atom_graph import AtomGraph, collate, position_tensor
from asecalc_ml.graph.batching import batches_by_atoms
from asecalc_ml.graph.graph_of import graph_of
from asecalc_ml.graph.neighbors.skin import DEFAULT_SKIN_A, SkinNeighborList
from asecalc_ml.model.compile.compiled_functions import Compile
from asecalc_ml.model.evaluator import BATCH_ATOMS, Evaluator, SystemArrays
from asecalc_ml.model.heads.values import values_of
from asecalc_ml.model.pair_forces import PairForces, summed
from asecalc_ml.store.card import ModelCard
from asecalc_ml.store.golden import check_golden
from asecalc_ml.store.registry import is_path, name_and_hash
from asecalc_ml.store.stored_model import StoredModel
from asecalc_ml.structure.charge_and_spin import charge_and_spin
from asecalc_ml.structure.checks_of_many import are_in_order, is_small_molecule
from asecalc_ml.structure.loading import check_structure
from asecalc_ml.structure.molecular_graph.graph import constant_features
from asecalc_ml.targets.target import ENERGY, STD

#: Name of the standard deviation of an energy among results.
ENERGY_STD = ENERGY + STD

#: Atoms that :meth:`MLCalculator.calculate_many` sorts into batches at a time.
MANY_ATOMS = 8192

#: Digits of a model's hash that files carry.
HASH_DIGITS = 16

#: A displacement from one call to the next that no step of dynamics makes: another structure, checked anew.
JUMP_A = 0.3


class _Known(NamedTuple):
    """The last structure that was found to be in order; nobody else changes its arrays."""

    atoms: Atoms
    graph: AtomGraph


class MLCalculator(Calculator):
    """A learned potential for ASE: energies in eV, forces in eV/Å, stress in eV/Å³; or other quantities.

    A model of other quantities, such as homo, gives these by their names and has no energy and no forces:
    ``calc.get_property("homo", atoms)``, in the unit that its card states.

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
    A model with an uncertainty (:mod:`asecalc_ml.model.heads.last_layer`) gives standard deviations:
    ``calc.get_property("energy_std", atoms)`` in eV, which costs a second pass, and ``homo_std`` with each
    homo.
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
    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress", "stresses"]  # noqa: RUF012
    default_parameters = {  # noqa: RUF012
        "device": "cpu",
        "dtype": None,
        "compile": "auto",
        "neighbors": "auto",
        "skin_A": DEFAULT_SKIN_A,
    }

    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012
    results: Results

    def __init__(self, model: str | Path, **parameters: Any):
        self._is_loaded = False
        self._known: _Known | None = None
        super().__init__(model=str(model), **parameters)
        self.stored = stored = self._stored()
        check_golden(stored)
        self.card, self.model_hash = stored.card, stored.hash
        self._terms = correction_calculators(self.card.corrections)
        self.implemented_properties = self._properties()
        self._pairs = SkinNeighborList(
            self.card.cutoff_A, self.parameters.skin_A, self.parameters.neighbors, stored.device
        )
        self._evaluator = Evaluator(stored, self.parameters.compile)
        self._is_loaded = True

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that the card's corrections rest on."""
        return tuple(package for term in self._terms for package in offered(term).packages)

    @property
    def continuous(self) -> bool:
        return self.card.continuous

    def set(self, **parameters: Any) -> dict[str, Any]:
        """Refuse unknown parameters, and changes once the model is loaded."""
        known = ("model", *self.default_parameters)
        for key in sorted(parameters.keys() - set(known)):
            complaint, remedy = f"MLCalculator has no parameter {key!r}", f"It has {', '.join(known)}"
            raise unknown_name_error(ConfigError, complaint, key, known, remedy)
        changed = [key for key, value in parameters.items() if self.parameters.get(key) != value]
        if changed and self._is_loaded:
            raise ConfigError(
                f"{changed[0]} of a loaded model cannot be changed;",
                name=changed[0],
                value=parameters[changed[0]],
                remedy="make a new MLCalculator",
            )
        return super().set(**parameters)

    def spec(self) -> Spec:
        """Name and arguments that make the same calculator, the model with its hash."""
        arguments = self.todict()
        return named_spec(arguments.pop("model"), arguments)

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Parameters that make the same calculator, the model with its hash: files name the weights."""
        return {**super().todict(skip_default), "model": self._identity()}

    def __reduce__(self) -> tuple:
        return _remade, (type(self), self.todict())

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return the properties that changed since the last call, compared bit by bit."""
        return changes(self.atoms, atoms)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """As ASE's, with a message that says what there is."""
        self._need([name])
        return super().get_property(name, atoms, allow_calculation)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        need_structure(self.atoms)
        need_cell(self.atoms, properties)
        if "dipole" in properties and self.atoms.pbc.any():
            raise PropertyNotImplementedError(
                "a periodic structure has no dipole: set pbc to false, or do not ask for it"
            )
        if not self.card.predicts_energy:
            (self.results,) = self._values([self.atoms])
            return
        if system_changes or not self.results:  # else others are asked for after the rest
            (evaluation,) = self._evaluator(self.next_graph(self.atoms)).split([len(self.atoms)])
            self.take(evaluation, self.atoms)
        if "stresses" in properties:
            self.results["stresses"] = self._stresses([self.atoms])[0]
        if ENERGY_STD in properties:
            self._need_common_zero(self.atoms)
            self.results |= self._deviations([self.next_graph(self.atoms)])[0]

    def take(self, evaluation: SystemArrays, atoms: Atoms) -> None:
        """Make an evaluation of this model the last calculation; the structure must not change later."""
        self.atoms, self.results = atoms, with_terms(results_of(evaluation, atoms), self._terms, atoms)

    def calculate_many(self, structures: Iterable[Atoms], properties: Collection[str] = ()) -> list[Results]:
        """Results of many structures, computed in batches.

        Parameters
        ----------
        structures : iterable of Atoms
            They may differ in everything. They are left as they are, and so are the calculator's results.
        properties : collection of str
            "stresses" adds the stress of each atom and "energy_std" the energy's standard deviation, each at
            the price of a second pass; all else is there.

        Returns
        -------
        list of dict
            Each as ``results`` after a calculation; with ``stress`` where the cell has rank 3.

        Raises
        ------
        StructureError
            As for a single structure, with its number in the call.
        """
        self._need(properties)
        if not self.card.predicts_energy:
            return self._values(list(structures))
        results: list[Results] = []
        for batch in batches_by_atoms(structures, MANY_ATOMS):
            self._check_many(batch, first=len(results))
            for atoms in batch:
                need_cell(atoms, properties)
            evaluations = self._evaluator.many(batch, self.parameters.neighbors)
            in_batch = self._results_of_many(evaluations, batch, first=len(results))
            if "stresses" in properties:
                for result, stresses in zip(in_batch, self._stresses(batch), strict=True):
                    result["stresses"] = stresses
            if ENERGY_STD in properties:
                deviations = self._deviations([self._new_graph(atoms) for atoms in batch])
                for result, atoms, own in zip(in_batch, batch, deviations, strict=True):
                    if self.card.knows_energies_of(atoms.numbers):
                        result.update(own)
            results += in_batch
        return results

    def pair_forces(self, atoms: Atoms) -> PairForces:
        """Forces F_ij between pairs of atoms, with ∂E/∂r_ij, of the network and the terms of its card.

        The calculator's results are left as they are.

        Raises
        ------
        PropertyNotImplementedError
            If the card names a term without pair forces, such as D3.
        StructureError
            As for a single structure.
        """
        self._need(["forces"])
        own = self._evaluator.pair_forces(self._new_graph(atoms))
        return summed([own, *(offered(term).pair_forces(atoms) for term in self._terms)])

    def get_hessian(self, atoms: Atoms) -> np.ndarray:
        """Second derivatives of the energy by automatic differentiation.

        Returns
        -------
        array, shape (3 n_atoms, 3 n_atoms), eV/Å²
            As :meth:`ase.vibrations.VibrationsData.from_2d` takes it.
        """
        self._need(["forces"])
        hessian = self._evaluator.hessian(self._new_graph(atoms)).cpu().numpy()
        return hessian + sum(term.get_hessian(atoms) for term in self._terms)

    def export_properties(self) -> Properties:
        """The results that ASE has names for."""
        return named_by_ase(self.results)

    def prepare(self, atoms: Atoms) -> None:
        """Compile the model for structures of this one's size now, unless a package lies in the cache.

        Raises
        ------
        ModelError
            If the model cannot be compiled here.
        """
        need_energies(self, "Compiling for dynamics")
        self._evaluator.prepare(self.next_graph(atoms.copy()))

    def expect(self, atoms: Atoms, n_calls: int) -> None:
        """Announce how often structures of this one's size will be computed.

        With ``compile="auto"`` a long run is then compiled before its first step and not in its midst.
        """
        self._evaluator.expect(self.next_graph(atoms.copy()), n_calls)

    def checkpoint_state(self) -> dict:
        """What a resumed run needs to go on bit for bit, ready for JSON."""
        return self._evaluator.state()

    def restore_state(self, state: dict) -> None:
        """Go on as the calculator did whose :meth:`checkpoint_state` this is."""
        self._evaluator.restore(state)

    def _stored(self) -> StoredModel:
        parameters = self.parameters
        if parameters.compile not in (choices := get_args(Compile)):
            raise ModelError(
                f"compile is {parameters.compile!r};",
                name="compile",
                value=parameters.compile,
                allowed=choices,
                remedy=f"use {' or '.join(map(repr, choices))}",
            )
        return StoredModel.find(parameters.model, parameters.dtype, parameters.device)

    def _need(self, properties: Iterable[str]) -> None:
        """Refuse properties that the model, or a term of its card, lacks."""
        for name in properties:
            if name in self.implemented_properties:
                continue
            if name.endswith(STD) and name.removesuffix(STD) in self.implemented_properties:
                raise PropertyNotImplementedError(self._no_uncertainty(name))
            if not self.card.predicts_energy:
                first = self.implemented_properties[0]
                raise PropertyNotImplementedError(
                    f"no {name}: {no_energies(self.card)}. Ask for `calc.get_property({first!r}, atoms)`, or "
                    "use a model of energies"
                )
            raise PropertyNotImplementedError(
                f"no {name}: model {self.card.name!r} gives {', '.join(self.implemented_properties)}; "
                "ask for one of these, or use another calculator"
            )

    def _properties(self) -> list[str]:
        """Properties that the network and every correction term of the card provide."""
        deviations = [name + STD for name in self.card.uncertainty]
        if not self.card.predicts_energy:
            return [*(quantity.name for quantity in self.card.quantities), *deviations]
        own = type(self).implemented_properties
        common = [name for name in own if all(name in term.implemented_properties for term in self._terms)]
        return [*common, *(["charges", "dipole"] if self.card.partial_charges else []), *deviations]

    def _no_uncertainty(self, name: str) -> str:
        """State why a model has no standard deviation of something, and the remedy."""
        quantities = {quantity.name + STD: quantity for quantity in self.card.quantities}
        problem, quantity = f"no {name}: ", quantities.get(name)
        if quantity is None or not quantity.is_scalar:
            scalars = [of_name for of_name, one in quantities.items() if one.is_scalar]
            problem += f"a single model has an uncertainty of scalars alone ({', '.join(scalars) or 'none'})"
            return f"{problem}. Use a committee of models"
        return (
            f"{problem}model {self.card.name!r} holds no uncertainty. Compute one with `asecalc-ml calibrate "
            f"{self.card.name}`, or use a committee of models"
        )

    def _need_common_zero(self, atoms: Atoms) -> None:
        """Refuse the uncertainty of an energy without the training data's zero."""
        if not self.card.knows_energies_of(atoms.numbers):
            raise PropertyNotImplementedError(
                f"no {ENERGY_STD}: energies of {atoms.get_chemical_formula()} have no zero, since the data "
                f"of {self.card.name!r} cannot tell its elements apart. Train on data of more compositions"
            )

    def _identity(self) -> str:
        """The model with its hash; a file by its absolute path, so that it is found from everywhere."""
        name, wanted = name_and_hash(self.parameters.model)
        if is_path(name):
            name = str(Path(name).expanduser().absolute())
        return f"{name}@{wanted or self.model_hash[:HASH_DIGITS]}"

    def is_molecule(self, atoms: Atoms) -> bool:
        """True for a structure that is computed as an array of all its pairs."""
        return self._evaluator.is_molecule(atoms, self.parameters.neighbors)

    def next_graph(self, atoms: Atoms) -> AtomGraph:
        """Graph of a structure whose pairs are those of the step before where these are still good."""
        known, self._known = self._known, None  # forgotten if this structure turns out to be refused
        changed = {*changes(known.atoms if known else None, atoms)}
        if known is None or not changed <= {"positions", "cell"} or not _is_next_step(atoms, known.atoms):
            self._check(atoms)
            known = None
        if known is not None and "cell" not in changed and self._pairs.is_static:
            positions = position_tensor(atoms).to(known.graph.positions.device)
            graph = replace(known.graph, positions=positions)
        else:
            pairs = self._pairs.update(position_tensor(atoms), atoms.cell.array, atoms.pbc)
            graph = AtomGraph.from_pairs(atoms, pairs)
        self._known = _Known(atoms, graph)
        return graph

    def _new_graph(self, atoms: Atoms) -> AtomGraph:
        """Graph of a structure that has nothing to do with the others."""
        self._check(atoms)
        return graph_of(atoms, self.stored, self.parameters.neighbors)

    def _values(self, structures: Sequence[Atoms]) -> list[Results]:
        """Values of a model that predicts other quantities than energies."""
        self._check_many(structures, first=0)
        graphs = (graph_of(atoms, self.stored, self.parameters.neighbors) for atoms in structures)
        values = values_of(self._evaluator.model, graphs, self.stored.uncertainty)
        return [
            values_as_results(of_structure, atoms, self.card)
            for of_structure, atoms in zip(values, structures, strict=True)
        ]

    def _stresses(self, structures: Sequence[Atoms]) -> list[np.ndarray]:
        """Stresses of atoms of each structure, shape (n_atoms, 6), eV/Å³, from a pass of their own."""
        virials: list[Tensor] = []
        for batch in batches_by_atoms(structures, BATCH_ATOMS):
            graph = collate([self._new_graph(atoms) for atoms in batch])
            virials += self._evaluator.atomic_virials(graph).split([len(atoms) for atoms in batch])
        return [
            stresses_of(own, atoms) + sum(term.get_property("stresses", atoms) for term in self._terms)
            for own, atoms in zip(virials, structures, strict=True)
        ]

    def _deviations(self, graphs: Sequence[AtomGraph]) -> list[Results]:
        """Standard deviation of the energy of each structure, from a pass without a derivative."""
        values = values_of(self._evaluator.model, graphs, self.stored.uncertainty)
        return [{ENERGY_STD: float(of_structure[ENERGY_STD])} for of_structure in values]

    def _check(self, atoms: Atoms) -> None:
        check_structure(atoms)
        check_trained(atoms, self.card)

    def _check_many(self, structures: Sequence[Atoms], first: int) -> None:
        """Check each structure, molecules together; what is wrong with one is said by its own check.

        Parameters
        ----------
        structures : sequence of Atoms
        first : int
            Number of the first one in the call.
        """
        molecules = [atoms for atoms in structures if is_small_molecule(atoms)]
        are_checked = are_in_order(molecules) and are_trained(molecules, self.card)
        for number, atoms in enumerate(structures, first):
            if are_checked and is_small_molecule(atoms):
                continue
            try:
                self._check(atoms)
            except StructureError as error:
                raise _numbered(error, number) from None

    def _results_of_many(
        self, evaluations: Sequence[SystemArrays], structures: Sequence[Atoms], first: int
    ) -> list[Results]:
        results: list[Results] = []
        for evaluation, atoms in zip(evaluations, structures, strict=True):
            try:
                network = results_of(evaluation, atoms)
            except StructureError as error:
                raise _numbered(error, first + len(results)) from None
            results.append(with_terms(network, self._terms, atoms))
        return results


def _numbered(error: StructureError, number: int) -> StructureError:
    return error.at(f"structure {number}, counted from 0")


def are_trained(structures: Sequence[Atoms], card: ModelCard) -> bool:
    """Return True if :func:`check_trained` refuses none of the structures."""
    try:
        states = {charge_and_spin(atoms) for atoms in structures}
    except StructureError:
        return False
    numbers = {number for atoms in structures for number in atoms.numbers.tolist()}
    if card.molecular_graph:
        return False  # each is looked at
    return (
        {chemical_symbols[number] for number in numbers} <= set(card.elements)
        and {charge for charge, _ in states} <= set(card.charges)
        and {spin for _, spin in states} <= set(card.spins)
    )


def check_trained(atoms: Atoms, card: ModelCard) -> None:
    """Refuse elements, charge or spin that the model was not trained on, with a StructureError.

    A dipole, or its norm, is refused of a periodic structure, where it depends on the choice of the cell; a
    model that takes a molecular graph refuses a structure without one.
    """
    dipoles = [quantity.name for quantity in card.quantities if quantity.kind in ("vector", "vector norm")]
    if dipoles and atoms.pbc.any():
        raise StructureError(
            f"model {card.name!r} predicts {dipoles[0]}, which a periodic structure does not have;",
            name="pbc",
            value=atoms.pbc.tolist(),
            remedy="set pbc to false for a molecule, or use another model",
        )
    unknown = sorted(set(atoms.symbols) - set(card.elements))
    if unknown:
        raise StructureError(
            f"model {card.name!r} was not trained on {', '.join(unknown)}, only on "
            f"{', '.join(card.elements)}",
            name=card.name,
            value=unknown,
            allowed=card.elements,
            remedy="use another model (asecalc-ml models list), or train one",
        )
    for key, value, trained in zip(
        ("charge", "spin"), charge_and_spin(atoms), (card.charges, card.spins), strict=True
    ):
        if value not in trained:
            said = f"atoms.info[{key!r}]" if key in atoms.info else f"the {key} that the structure states"
            raise StructureError(
                f"{said} is {value}, and model {card.name!r} was trained on {key} "
                f"{', '.join(map(str, trained))} only;",
                name=key,
                value=value,
                allowed=trained,
                remedy="correct it, or use a model trained for it",
            )
    if card.molecular_graph:
        try:
            constant_features(atoms)
        except StructureError as error:
            raise error.at(f"model {card.name!r} needs a molecular graph") from None


def _remade(kind: type[MLCalculator], parameters: dict) -> MLCalculator:
    return kind(**parameters)


def _is_next_step(atoms: Atoms, known: Atoms) -> bool:
    """Whether everything is finite and near where it was, so that it need not be checked in full."""
    moved = np.abs(atoms.positions - known.positions).max()
    return bool(moved <= JUMP_A and np.isfinite(atoms.cell.array).all())  # no NaN is <= anything


register_calculator_class(MLCalculator.name, MLCalculator)
