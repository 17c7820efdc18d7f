"""The stage that walks along a coordinate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from ase import Atoms
from ase.constraints import FixBondLengths, FixInternals

from asecalc_ml.calculators.batches.many import batches
from asecalc_ml.errors import CalculationError, RunError, StructureError
from asecalc_ml.md_protocols.engine.record import EvaluationRecord, Recorded
from asecalc_ml.md_protocols.scan.plan import POINTS, ScanPlan
from asecalc_ml.md_protocols.stages.relax import optimizer_for
from asecalc_ml.md_protocols.stages.stage import Stage
from asecalc_ml.runs import RELAXED, SCAN, SCAN_TABLE, TRAJECTORY, EventKind, RunReader
from asecalc_ml.structure.loading import check_structure

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.engine import Engine
    from asecalc_ml.md_protocols.scan.coordinate import Coordinate
    from asecalc_ml.md_protocols.scan.options import Scan

Path = dict[int, Atoms]  # structures by number of the point; those that could not be made are missing
OFF = 1e-3  # Å or degrees that a relaxed coordinate may miss its value by
WHOLE = -1  # in the column of members: the calculator itself


@dataclass(frozen=True)
class ScanStage(Stage):
    """Every calculator at every point. Killed, it goes on with what is not on record.

    A calculator that computes many structures together gets the points in batches, each of the same points
    however often the run is resumed.

    Parameters
    ----------
    options : Scan
    """

    options: Scan
    name: ClassVar[str] = "scan"
    writes: ClassVar[tuple[str, ...]] = (SCAN, SCAN_TABLE, TRAJECTORY)

    @property
    def n_steps(self) -> int:  # type: ignore[override]  # computed here
        """Points of all calculators, as far as the options tell."""
        return self._n_calculators * (self.options.points or 1)

    @property
    def _n_calculators(self) -> int:
        return 1 + len(self.options.more_calculators) + (self.options.reference is not None)

    def summary(self) -> str:
        """Coordinate and range."""
        options = self.options
        if options.start is None:
            values = f"at the values of {options.reference_values}"
        else:
            values = f"from {options.start:g} to {options.stop:g} in {options.points or POINTS} points"
        return f"{options.kind}, {options.coordinate} {values}, calculators: {self._n_calculators}"

    def run(self, engine: Engine) -> None:
        """Write scan.json, then a row and a frame for each point."""
        plan = ScanPlan.of(self.options, engine.atoms)
        _write_plan(engine, plan, self.options.kind)
        record = EvaluationRecord(engine.writer)
        calculators = {e.label: Recorded(e.calculator, e.label, record) for e in plan.entries}
        walk = _Walk(self.options, plan, engine)
        rows = _Rows(engine, plan.coordinate)
        paths: dict[str, Path] = {}
        n_failed = 0
        for number, entry in enumerate(plan.entries):
            maker = plan.makers[entry.label]
            if maker not in paths:
                paths[maker] = walk.path(calculators[maker])
                _keep_start(engine, walk, first=len(paths) == 1)
            calculator, path = calculators[entry.label], paths[maker]
            for points in batches(entry.calculator, range(len(plan.values)), lambda _: len(plan.atoms)):
                calculator.calculate_batch([path[point] for point in points if point in path])
                for point in points:
                    where = (number, point, plan.values[point])
                    n_failed += not self._write(engine, rows, calculator, where, path.get(point))
                    engine.progress.update(number * len(plan.values) + point + 1)
                    engine.pause_if_asked()
        engine.writer.flush()
        self._conclude(engine, plan, n_failed)

    def _write(
        self, engine: Engine, rows: _Rows, calculator: Recorded, where: tuple, atoms: Atoms | None
    ) -> bool:
        """Write what is on record of a point, and return whether it could be computed."""
        if atoms is None:  # told when the path was made
            rows.write(where, None, None)
            return False
        try:
            calculator.get_property("forces", atoms)
        except CalculationError as error:
            engine.note(EventKind.WARNING, f"{calculator.label} at {where[2]:g}: {error}; the scan goes on")
            rows.write(where, None, None)
            return False
        rows.write(where, atoms, calculator.results)
        return True

    def _conclude(self, engine: Engine, plan: ScanPlan, n_failed: int) -> None:
        n_all = len(plan.entries) * len(plan.values)
        names = ", ".join(entry.label for entry in plan.entries)
        text = f"{len(plan.values)} points of {plan.describe(self.options.kind)['coordinate']} with {names}"
        text += f"; {n_failed} of {n_all} calculations failed" if n_failed else ""
        if n_failed == n_all:
            engine.stop("not one point of the scan could be computed")
        engine.note(EventKind.FINISHED, text)
        engine.progress.say(text)


def _write_plan(engine: Engine, plan: ScanPlan, kind: str) -> None:
    """Write scan.json; a resumed run refuses calculators that have changed."""
    before, now = RunReader(engine.directory).read_scan(), plan.describe(kind)
    if before is not None:
        for old, new in zip(before["calculators"], now["calculators"], strict=True):
            engine.check_same(new["label"], old, new)
    engine.writer.write_json(SCAN, now)


def _keep_start(engine: Engine, walk: _Walk, first: bool) -> None:
    if first and walk.start is not None:
        engine.writer.write_structure(RELAXED, walk.start)


class _Walk:
    """Makes the structures of a scan.

    A rigid scan displaces one structure. A relaxed one begins at the point nearest to the structure and goes
    outward to both ends, each point from its inner neighbor.
    """

    def __init__(self, options: Scan, plan: ScanPlan, engine: Engine):
        self._options, self._plan, self._engine = options, plan, engine
        self.start: Atoms | None = None  # the relaxed structure of the last path

    def path(self, calculator: Recorded) -> Path:
        """Structures at all values, as a calculator makes them."""
        self.start = self._start(calculator)
        return self._rigid() if self._options.kind == "rigid" else self._relaxed(calculator)

    def _start(self, calculator: Recorded) -> Atoms:
        atoms = self._plan.atoms.copy()
        if self._options.relax or self._options.kind == "relaxed":
            try:
                self._minimize(atoms, calculator, "the start")
            except CalculationError as error:
                self._engine.stop(f"{calculator.label} cannot relax the structure: {error}", error)
        return atoms

    def _rigid(self) -> Path:
        made = {point: self._made(value, self.start) for point, value in enumerate(self._plan.values)}
        return {point: atoms for point, atoms in made.items() if atoms is not None}

    def _relaxed(self, calculator: Recorded) -> Path:
        path: Path = {}
        for side in self._sides():
            inner = self.start
            for point in side:
                made = self._made(self._plan.values[point], inner, calculator)
                if made is not None:
                    path[point] = inner = made
        return path

    def _sides(self) -> list[list[int]]:
        """Points from the one nearest to the start outward: up, then down."""
        values, coordinate = self._plan.values, self._plan.coordinate
        away = values - coordinate.measure(self.start)
        if coordinate.kind == "dihedral":
            away = (away + 180) % 360 - 180
        nearest = int(np.abs(away).argmin())
        return [list(range(nearest, len(values))), list(range(nearest - 1, -1, -1))]

    def _made(self, value: float, base: Atoms, relaxes: Recorded | None = None) -> Atoms | None:
        """The structure at a value, relaxed where wanted; None where it cannot be made, which is told."""
        try:
            atoms = self._plan.coordinate.displaced(base, value)
            check_structure(atoms)
            if relaxes is not None:
                self._relax_at(relaxes, value, atoms)
            return atoms
        except (CalculationError, StructureError) as error:
            self._engine.note(EventKind.WARNING, f"no structure at {value:g}: {error}; the scan goes on")
            return None

    def _relax_at(self, calculator: Recorded, value: float, atoms: Atoms) -> None:
        held = list(atoms.constraints)
        atoms.set_constraint([*held, _held(self._plan.coordinate, value)])
        try:
            self._minimize(atoms, calculator, f"{value:g}")
        finally:
            atoms.set_constraint(held)
        coordinate = self._plan.coordinate
        off = coordinate.measure(atoms) - value
        if coordinate.kind != "bond":
            off = (off + 180) % 360 - 180
        if abs(off) > OFF:
            raise CalculationError(
                "relaxing did not keep the coordinate, since an image of an atom is nearer than the atom",
                name="coordinate",
                value=float(off),
                remedy="use a larger cell, or kind: rigid",
            )

    def _minimize(self, atoms: Atoms, calculator: Recorded, where: str) -> None:
        options = self._options
        atoms.calc = calculator
        optimizer = optimizer_for(atoms)
        try:
            for is_relaxed in optimizer.irun(fmax=options.relax_fmax_eV_A, steps=options.relax_steps):
                converged = is_relaxed
                self._engine.pause_if_asked()
        except (RunError, CalculationError):
            raise
        except (ValueError, RuntimeError, ArithmeticError) as error:  # a constraint that cannot be kept
            raise CalculationError(f"relaxing failed ({error or type(error).__name__})") from error
        if not converged:
            text = f"{calculator.label} at {where}: not relaxed to {options.relax_fmax_eV_A} eV/Å"
            self._engine.note(EventKind.WARNING, text)


def _held(coordinate: Coordinate, value: float) -> FixBondLengths | FixInternals:
    """ASE's constraint that keeps a coordinate."""
    atoms = list(coordinate.atoms)
    if coordinate.kind == "bond":
        return FixBondLengths([atoms])
    name = {"angle": "angles_deg", "dihedral": "dihedrals_deg"}[coordinate.kind]
    return FixInternals(**{name: [[value, atoms]]}, epsilon=1e-7)


class _Rows:
    """Appends to scan.csv and to the frames what was not written before the run was stopped."""

    def __init__(self, engine: Engine, coordinate: Coordinate):
        self._writer, self._coordinate = engine.writer, coordinate
        run = RunReader(engine.directory)
        self._rows, self._frames = len(run.read_scan_table().get("point", ())), run.n_frames

    def write(self, where: tuple[int, int, float], atoms: Atoms | None, results: dict | None) -> None:
        """Rows of a calculator and its members at a point, and a frame; not a number without results."""
        if atoms is None or results is None:
            self._row(where, WHOLE, math.nan, math.nan)
            return
        everything = [(results["energy"], results["forces"]), *results["members"]]
        for member, (energy, forces) in enumerate(everything, WHOLE):
            self._row(where, member, energy, self._coordinate.projected(atoms.positions, forces))
        if self._frames > 0:
            self._frames -= 1
        else:
            self._writer.frame(atoms, results["energy"], results["forces"])

    def _row(self, where: tuple[int, int, float], member: int, energy: float, force: float) -> None:
        if self._rows > 0:
            self._rows -= 1
            return
        number, point, value = where
        row = {"calculator": number, "member": member, "point": point, "value": value}
        self._writer.row(SCAN_TABLE, row | {"energy_eV": energy, "force": force})
        self._writer.flush()
