"""What a calculator remembers, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms

from asecalc_ml.conformance.checks.process import ProcessState
from asecalc_ml.conformance.deviations import deviations
from asecalc_ml.conformance.result import Measured, NotApplicableError
from asecalc_ml.conformance.structures import SEED
from asecalc_ml.conformance.subject import CalculatorUnderTest, ask, ask_raw, reset
from asecalc_ml.structure.charge_and_spin import charge_and_spin

N_CALLS = 30


def nothing_stale(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """One calculator through a series of changes, against one that has seen nothing before."""
    series = list(_changes(subject))
    expected = [ask(subject.another(), atoms.copy()) for _, atoms in series]
    calculator = subject.another()
    for (what, atoms), fresh in zip(series, expected, strict=True):
        bounds = subject.bounds_of(atoms)
        yield from deviations(ask(calculator, atoms), fresh, bounds, len(atoms), f"after {what}")


def determinism(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Thirty identical calls give the same bits."""
    calculator, atoms = subject.another(), subject.molecule
    answers = []
    for _ in range(N_CALLS):
        reset(calculator)
        answers.append(ask(calculator, atoms.copy()))
    for name, unit in (("energy", "eV"), ("forces", "eV/Å")):
        values = np.array([answer[name] for answer in answers], float)
        spread = float(np.ptp(values, axis=0).max())
        n_other = sum(not np.array_equal(value, values[0]) for value in values)
        yield Measured(spread, 0.0, unit, f"{n_other} of {N_CALLS} differ from the first" if n_other else "")


def order_of_questions(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Energy and forces are the same, asked together, alone, and in another order."""
    atoms = subject.molecule
    together = subject.evaluate(atoms)
    alone = {**subject.evaluate(atoms, "forces"), **subject.evaluate(atoms, "energy")}
    yield from deviations(alone, together, subject.bounds, len(atoms), "alone")
    other = subject.evaluate(atoms, "forces", "energy")
    yield from deviations(other, together, subject.bounds, len(atoms), "forces first")


def plain_atoms(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Atoms that say nothing of charge and spin are neutral and have none unpaired."""
    atoms = subject.molecule
    if any(charge_and_spin(atoms)):
        raise NotApplicableError("the structure has a charge or a spin")
    plain = atoms.copy()
    plain.info = {}
    yield from deviations(subject.evaluate(plain), subject.evaluate(atoms), subject.bounds, len(atoms))


def results_are_kept(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """What was returned does not change when the next structure is asked about, or when it is written to."""
    atoms, calculator = subject.molecule, subject.another()
    first = ask_raw(calculator, atoms)["forces"]
    kept = np.array(first)
    ask_raw(calculator, _moved(atoms, 0.1))
    yield Measured(float(np.abs(first - kept).max()), 0.0, "eV/Å", "after another structure")
    mine = ask_raw(calculator, atoms)["forces"]
    mine[:] = 0.0
    again = np.asarray(ask_raw(calculator, atoms)["forces"])
    yield Measured(float(np.abs(again - kept).max() > np.abs(kept).max() / 2), 0.0, "", "after writing to it")


def types(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """ASE's: energy a float, forces (n, 3), stress (6,), energies (n,), stresses (n, 6), of float64."""
    wrong = []
    for atoms in subject.bodies():
        calculator = subject.another()
        for name in filter(
            subject.has, ("energy", "free_energy", "energies", "forces", "stress", "stresses")
        ):
            if name not in ("stress", "stresses") or atoms.pbc.any():
                wrong += _wrong(name, ask_raw(calculator, atoms, name)[name], len(atoms))
    distinct = sorted(set(wrong))
    yield Measured(len(distinct), 0, "wrong", "; ".join(distinct))


def input_untouched(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Atoms given to a calculator come back as they were."""
    for atoms in subject.bodies():
        atoms.positions += 3.0  # partly outside the cell
        given = atoms.copy()
        reset(subject.calculator)
        ask(subject.calculator, given)
        changed = _differences(atoms, given)
        yield Measured(len(changed), 0, "changed", ", ".join(changed))


def process_untouched(subject: CalculatorUnderTest) -> Iterator[Measured]:
    """Default types, threads, random numbers, gradients, environment and folder are as before."""
    first = ProcessState.now()
    ask(subject.another(), subject.molecule)
    last = ProcessState.now()
    changed = sorted({*first.changes(last), *subject.before.changes(last)})
    if last.torch_default_dtype not in (None, "torch.float32") and subject.before.torch_default_dtype is None:
        changed.append(f"torch default dtype: {last.torch_default_dtype}")
    yield Measured(len(changed), 0, "changed", "; ".join(changed))


def _changes(subject: CalculatorUnderTest) -> Iterator[tuple[str, Atoms]]:
    """A series of structures, each different from the one before in one thing."""
    atoms = subject.molecule
    yield "the first call", atoms.copy()
    yield "a small step", (atoms := _moved(atoms, 1e-5))
    yield "a long step", (atoms := _stretched(atoms))
    yield "more atoms", _twice(atoms)
    yield "fewer atoms", atoms.copy()
    if len(set(atoms.numbers)) > 1:
        swapped = atoms.copy()
        swapped.numbers = atoms.numbers[::-1]
        if (swapped.numbers != atoms.numbers).any():
            yield "other elements", swapped
    if subject.takes_bulk:
        yield from _periodic_changes(subject)
    yield "going back", subject.molecule


def _periodic_changes(subject: CalculatorUnderTest) -> Iterator[tuple[str, Atoms]]:
    atoms = subject.bulk
    yield "periodic boundaries", atoms.copy()
    wider = atoms.copy()
    wider.set_cell(atoms.cell * 1.03, scale_atoms=False)
    yield "another cell around the same atoms", wider
    strained = wider.copy()
    strained.set_cell(wider.cell * 1.02, scale_atoms=True)
    yield "a strained cell", strained
    moved = strained.copy()
    moved.positions[0] += moved.cell.array[0] + 0.05
    yield "an atom that left the cell", moved


def _moved(atoms: Atoms, amplitude: float) -> Atoms:
    moved = atoms.copy()
    moved.positions += np.random.default_rng(SEED + 5).uniform(-amplitude, amplitude, atoms.positions.shape)
    return moved


def _stretched(atoms: Atoms) -> Atoms:
    """Every distance by a tenth, so that neighbor lists change."""
    stretched = atoms.copy()
    stretched.positions *= 1.1
    return stretched


def _twice(atoms: Atoms) -> Atoms:
    copy = atoms.copy()
    copy.positions += [0, 0, np.ptp(atoms.positions[:, 2]) + 2.5]
    doubled = atoms + copy
    doubled.info = dict(atoms.info)
    return doubled


def _wrong(name: str, value: object, n_atoms: int) -> list[str]:
    if name in ("energy", "free_energy"):
        right = isinstance(value, float) and np.ndim(value) == 0  # np.float64 is a float
        return [] if right else [f"{name} is {_named(value)}, not a float"]
    shape = {"forces": "(n, 3)", "stress": "(6,)", "energies": "(n,)", "stresses": "(n, 6)"}[name]
    expected = shape.replace("n", str(n_atoms))
    right = isinstance(value, np.ndarray) and value.dtype == np.float64 and str(value.shape) == expected
    return [] if right else [f"{name} is {_named(value)}, not a float64 array {shape}"]


def _named(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array {value.shape}"
    return f"a {type(value).__module__}.{type(value).__name__}"


def _differences(before: Atoms, after: Atoms) -> list[str]:
    """What of two structures is not the same, bit for bit."""
    if len(before) != len(after):
        return ["number of atoms"]
    names = sorted({*before.arrays, *after.arrays})
    different = [
        name for name in names if not np.array_equal(before.arrays.get(name), after.arrays.get(name))
    ]
    for name in ("cell", "pbc"):
        if not np.array_equal(getattr(before, name), getattr(after, name)):
            different.append(name)
    return different + (["info"] if before.info != after.info else [])
