"""Golden values: a model that does not reproduce its own card is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ase import Atoms

from asecalc_ml._lazy import renamed
from asecalc_ml.errors import ModelError
from asecalc_ml.files.user_cache import cache_folder, fingerprint, hardware
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.graph.graph_of import graph_of
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.derivative import EdgeDerivative, edge_derivative
from asecalc_ml.model.evaluator import Evaluation, assemble
from asecalc_ml.model.heads.values import rounding_of_values, values_of
from asecalc_ml.model.model import Model
from asecalc_ml.model.potential import PotentialInput
from asecalc_ml.model.rounding import Rounding, rounding
from asecalc_ml.sources import code_of_model, source_of_plugin
from asecalc_ml.store.card import Golden, ModelCard, formula_of
from asecalc_ml.store.stored_model import StoredModel
from asecalc_ml.structure.charge_and_spin import charge_and_spin
from asecalc_ml.targets.target import Quantity
from asecalc_ml.units import number_with_unit

TINY = 1e-300  # in place of a bound of zero


def make_golden(model: Model, atoms: Atoms) -> Golden:
    """Energy and forces of a structure, or the model's other quantities, in float64.

    The model's type is left as it was.

    Raises
    ------
    ModelError
        If the model does not reproduce them in its own type, so that it could not be used once registered.
    """
    dtype = model.dtype
    try:
        results = _results(model.set_dtype(torch.float64), atoms)
    finally:
        model.set_dtype(dtype)
    charge, spin = charge_and_spin(atoms)
    golden = Golden(
        atomic_numbers=atoms.numbers.tolist(),
        positions_A=atoms.positions.tolist(),
        cell_A=atoms.cell.array.tolist(),
        pbc=atoms.pbc.tolist(),
        charge=charge,
        spin=spin,
        smiles=str(atoms.info.get("smiles") or "") if model.molecular_graph else "",
        **results,
    )
    deviation = deviation_from(golden, model)
    if not deviation.is_rounding:
        raise ModelError(
            f"the model does not reproduce its float64 results in {_name(dtype)}: {deviation}. It could not "
            "be used",
            name=_name(dtype),
            value=deviation,
            remedy="train again in float64 or at a lower learning rate",
        )
    return golden


def _results(model: Model, atoms: Atoms) -> dict[str, Any]:
    """Reference values that a card keeps of a structure: energy_eV and forces_eV_A, or values."""
    results: dict[str, Any]
    if model.predicts_energy:
        derivative, inputs = _evaluate(model, atoms)
        evaluation = assemble(inputs, derivative)
        tensors, what = [evaluation.energy, evaluation.forces], "energy or forces"
        results = {"energy_eV": float(evaluation.energy[0]), "forces_eV_A": evaluation.forces.tolist()}
    else:
        (values,) = values_of(model.eval().requires_grad_(False), [_graph(model, atoms)])
        tensors, what = list(values.values()), "values"
        results = {"values": {name: value.reshape(-1).tolist() for name, value in values.items()}}
    if not all(tensor.isfinite().all() for tensor in tensors):
        raise ModelError(
            f"the model's {what} are not finite for the structure that its card would hold",
            value=float(tensors[0].reshape(-1)[0]),
            remedy="train again, at a lower learning rate, or import a checkpoint from before",
        )
    return results


class GoldenDeviation(NamedTuple):
    """Differences between a model's results for the structure of its card and the golden values.

    Parameters
    ----------
    energy, forces : float
        Absolute values in eV and eV/Å; of all components of forces the one that is nearest to its bound, or
        furthest beyond it.
    energy_bound, forces_bound : float
        What rounding explains of them.
    """

    energy: float
    energy_bound: float
    forces: float
    forces_bound: float

    @property
    def is_rounding(self) -> bool:
        """True if rounding explains both differences; False where one is not a number."""
        return self.energy <= self.energy_bound and self.forces <= self.forces_bound

    def __str__(self) -> str:
        return (
            f"the energy is off by {self.energy:.1e} eV (at most {self.energy_bound:.0e}), a force by "
            f"{self.forces:.1e} eV/Å (at most {self.forces_bound:.0e})"
        )


class ValueDeviation(NamedTuple):
    """Deviation of other quantities: the component that is nearest to its bound, or furthest beyond it.

    Parameters
    ----------
    quantity : Quantity
    value, bound : float
        Absolute difference, and what rounding explains of it, in the unit of the quantity.
    """

    quantity: Quantity
    value: float
    bound: float

    @property
    def is_rounding(self) -> bool:
        """True if rounding explains the difference; False where it is not a number."""
        return self.value <= self.bound

    def __str__(self) -> str:
        value = number_with_unit(f"{self.value:.1e}", self.quantity.unit)
        return f"{self.quantity.name} is off by {value} (at most {self.bound:.0e})"


def deviation_from(golden: Golden, model: Model) -> GoldenDeviation | ValueDeviation:
    """Compare a model, in its type and on its device, with golden values.

    See :mod:`asecalc_ml.model.rounding`.
    """
    atoms = golden_atoms(golden)
    if not model.predicts_energy:
        return _deviation_of_values(golden, model, atoms)
    assert golden.energy_eV is not None  # the card's quantities say so
    derivative, inputs = _evaluate(model, atoms)
    forces = torch.tensor(golden.forces_eV_A, dtype=torch.float64)
    bounds = rounding(model, inputs, derivative)
    return _compared(assemble(inputs, derivative), golden.energy_eV, forces, bounds)


def deviation_of(evaluation: Evaluation, model: Model, atoms: Atoms) -> GoldenDeviation:
    """Compare results for one structure, such as those of compiled code, with the model in plain PyTorch.

    Parameters
    ----------
    evaluation : Evaluation
        Of the structure alone.
    model : Model
        In the type, and on the device, of the evaluation.
    atoms : Atoms
    """
    derivative, inputs = _evaluate(model, atoms)
    expected = assemble(inputs, derivative)
    bounds = rounding(model, inputs, derivative)
    return _compared(evaluation, float(expected.energy[0]), expected.forces, bounds)


def _compared(
    evaluation: Evaluation, energy_eV: float, forces_eV_A: torch.Tensor, bounds: Rounding
) -> GoldenDeviation:
    """Deviation of an energy, and of the force component that is nearest to its bound."""
    off = (evaluation.forces - forces_eV_A.to(evaluation.forces)).abs()
    allowed = bounds.forces[:-1].expand_as(off)
    worst = (off / allowed.clamp(min=TINY)).nan_to_num(nan=torch.inf).argmax()
    energy, energy_bound = evaluation.energy[0] - energy_eV, bounds.systems[0]
    return GoldenDeviation(
        *(float(one) for one in (energy.abs(), energy_bound, off.flatten()[worst], allowed.flatten()[worst]))
    )


def _deviation_of_values(golden: Golden, model: Model, atoms: Atoms) -> ValueDeviation:
    inputs = _inputs(model.eval().requires_grad_(False), atoms)
    bounds = rounding_of_values(model, inputs)[0]
    values = model(inputs).systems[0].reshape(-1)
    quantities = [quantity for quantity in model.quantities for _ in quantity.components]
    stored = [component for quantity in model.quantities for component in golden.values[quantity.name]]
    off = (values - torch.tensor(stored, dtype=torch.float64).to(values)).abs()
    worst = int((off / bounds.clamp(min=TINY)).nan_to_num(nan=torch.inf).argmax())
    return ValueDeviation(quantities[worst], float(off[worst]), float(bounds[worst]))


def check_golden(stored: StoredModel) -> None:
    """Compare with the card; once per weights, versions, sources, hardware and type, as a stamp remembers.

    A model that reproduces its card although the sources of its architecture have changed gives a warning:
    golden values cover one structure.

    Raises
    ------
    ModelError
        If energy or forces deviate by more than rounding explains.
    """
    stamp = _stamp(stored)
    if stamp.exists():
        return
    deviation = deviation_from(stored.card.golden, stored.model)
    if not deviation.is_rounding:
        cause, remedy = _cause_and_remedy(stored.card)
        raise ModelError(
            f"model {stored.card.name!r} does not reproduce its card: {deviation}. {cause}",
            name=stored.card.name,
            value=deviation,
            remedy=remedy,
        )
    if change := _changed_source(stored.card):
        warnings.warn(
            f"model {stored.card.name!r}: {change}. It reproduces the energy and forces in its card, which "
            f"cover one structure ({formula_of(stored.card.golden.atomic_numbers)}) only",
            stacklevel=2,
        )
    _leave(stamp)


def _cause_and_remedy(card: ModelCard) -> tuple[str, str]:
    """Return what may have changed, and what to do about it."""
    if change := _changed_source(card):
        cause = f"{change[0].upper()}{change[1:]}"
        return cause, "install what it was made with, or train the model again"
    return (
        "Weights or a library differ from those it was made with",
        f"copy the model anew, or compare the versions in `asecalc-ml models show {card.name}` with the "
        "installed ones",
    )


def _changed_source(card: ModelCard) -> str | None:
    """How the sources of another party's architecture differ from those in the card, where it has them."""
    now = source_of_plugin("architectures", card.architecture)
    if card.architecture_source in (None, now):
        return None
    return (
        f"the code of its architecture {card.architecture!r} has changed: source "
        f"{now or '(of asecalc-ml)'} instead of {card.architecture_source}"
    )


def golden_atoms(golden: Golden) -> Atoms:
    """The structure of golden values."""
    smiles = {"smiles": golden.smiles} if golden.smiles else {}
    return Atoms(
        golden.atomic_numbers,
        positions=golden.positions_A,
        cell=golden.cell_A,
        pbc=golden.pbc,
        info={"charge": golden.charge, "spin": golden.spin, **smiles},
    )


def _evaluate(model: Model, atoms: Atoms) -> tuple[EdgeDerivative, PotentialInput]:
    inputs = _inputs(model, atoms)
    return edge_derivative(model.eval().requires_grad_(False), inputs), inputs


def _inputs(model: Model, atoms: Atoms) -> PotentialInput:
    return with_ghost(_graph(model, atoms), model.cutoff, triplet_cutoff=model.triplet_cutoff)


def _graph(model: Model, atoms: Atoms) -> AtomGraph:
    return graph_of(atoms, model).to(model.device)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _stamp(stored: StoredModel) -> Path:
    """A file whose name says what was checked."""
    facts = [stored.hash, *code_of_model(stored.card), hardware(stored.device), str(stored.dtype)]
    return cache_folder("golden") / fingerprint(facts)


def _leave(stamp: Path) -> None:
    """Remember the pass; where nothing can be written the check runs again next time."""
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    except OSError:
        pass


__getattr__ = renamed(__name__, {"Deviation": "GoldenDeviation"})
