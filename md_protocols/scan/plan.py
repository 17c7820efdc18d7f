"""What a scan is going to do: its coordinate, values, calculators, and who makes the geometries."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from annotated_types import Gt, Le
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from asecalc_ml._lazy import renamed
from asecalc_ml.calculators.factory import describe_calculator, make_calculator
from asecalc_ml.calculators.protocol import model_cards, need_energies
from asecalc_ml.config.unit_hints import unit_hint
from asecalc_ml.errors import ConfigError, ModelError, StructureError, lacks_room
from asecalc_ml.files.reading import read_text
from asecalc_ml.md_protocols.scan.coordinate import Coordinate
from asecalc_ml.md_protocols.scan.coordinate_choice import choose
from asecalc_ml.structure.loading import check_structure
from asecalc_ml.structure.topology.bonds import canonical_pattern
from asecalc_ml.structure.topology.chains import name_of

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.scan.options import Scan

EACH, REFERENCE = "each", "reference"
POINTS = 31
LONGEST_A = 50.0  # distance that anybody may scan
COLUMNS = ("value", "energy_eV", "force")


@dataclass(frozen=True)
class LabelledCalculator:
    """A calculator of a scan."""

    label: str
    calculator: BaseCalculator
    is_reference: bool

    def describe(self, maker: str) -> dict[str, Any]:
        """What scan.json keeps of it."""
        cards = model_cards(self.calculator)
        description = describe_calculator(self.calculator)
        return {
            "label": self.label,
            "is_reference": self.is_reference,
            "geometries_of": maker,
            "cards": [card.model_dump(mode="json", exclude={"golden", "options"}) for card in cards],
            **description,
        }


@dataclass(frozen=True)
class ScanPlan:
    """Everything that a scan's options mean for one structure.

    Attributes
    ----------
    atoms : Atoms
        The structure, what moves beside the rest.
    coordinate : Coordinate
    values : ndarray, shape (n_points,), Å or degrees
    entries : list of LabelledCalculator
        The first calculator first, the reference last.
    known : list of list
        Rows of ``reference_values``: value, energy, projected force or None.
    makers : dict of str
        For each label that of the calculator whose geometries it computes.
    """

    atoms: Atoms
    coordinate: Coordinate
    values: np.ndarray
    entries: list[LabelledCalculator]
    known: list[list[float | None]]
    makers: dict[str, str]

    @classmethod
    def of(cls, options: Scan, atoms: Atoms) -> ScanPlan:
        """Make a plan; ConfigError or StructureError where the options do not fit."""
        moved, coordinate = choose(atoms, options.coordinate, options.molecule, options.moves)
        known = read_values(options.reference_values) if options.reference_values else []
        entries = _entries(options, atoms.calc)
        values = _values(options, known)
        _check_range(coordinate.kind, values)
        return cls(moved, coordinate, values, entries, known, _makers(options, [e.label for e in entries]))

    def check(self) -> None:
        """Refuse values at which atoms overlap, and calculators that cannot compute the structure."""
        for value in self.values:
            try:
                check_structure(self.coordinate.displaced(self.atoms, value))
            except StructureError as error:
                unit, given = self.coordinate.unit, self.coordinate.measure(self.atoms)
                reason = error.problem.partition(" (at least")[0]
                raise StructureError(
                    f"the scan drives atoms onto each other at {value:g} {unit} (the structure has "
                    f"{given:.4g} {unit}): {reason}.",
                    value=float(value),
                    remedy="Change start and stop, or what moves",
                ) from error
        for entry in self.entries[1:]:  # the first one computes the first state of every run
            _check_computable(entry, self.atoms)

    def describe(self, kind: str) -> dict[str, Any]:
        """What scan.json holds."""
        coordinate = self.coordinate
        return {
            "coordinate": name_of(self.atoms, coordinate.atoms),
            "kind": coordinate.kind,
            "unit": coordinate.unit,
            "pattern": canonical_pattern([self.atoms.symbols[i] for i in coordinate.atoms]),
            "atoms": list(coordinate.atoms),
            "moved": list(coordinate.moved),
            "scan": kind,
            "values": self.values.tolist(),
            "calculators": [entry.describe(self.makers[entry.label]) for entry in self.entries],
            "reference_values": self.known,
        }


def _check_computable(entry: LabelledCalculator, atoms: Atoms) -> None:
    """Refuse elements that a calculator does not know; what fails to converge here may do so elsewhere."""
    try:
        entry.calculator.get_property("forces", atoms.copy())
    except (StructureError, ConfigError, ModelError, NotImplementedError) as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise StructureError(
            f"{entry.label} cannot compute the structure: {reason}.",
            name=entry.label,
            value=reason,
            remedy="Leave it out of the scan, or take another",
        ) from error
    except Exception as error:  # a calculator may raise anything
        if lacks_room(error):
            raise


def read_values(path: str) -> list[list[float | None]]:
    """Rows of a file of values: value, energy in eV, and force along the coordinate or None, by value.

    Raises
    ------
    ConfigError
        If the file is missing, or a row is not two or three numbers.
    """
    try:
        lines = read_text(Path(path), ConfigError, "give a text file in UTF-8").splitlines()
        rows = [row for row in csv.reader(lines) if row and not row[0].lstrip().startswith("#")]
    except ConfigError as error:
        raise error.at("reference_values") from error
    except (OSError, csv.Error) as error:
        problem = f"reference_values: {path} cannot be read ({error})"
        raise ConfigError(problem, name=str(path), value=path) from error
    if rows and not _is_number(rows[0][0]):  # names of columns
        rows = rows[1:]
    if len(rows) < 2:
        raise ConfigError(
            f"reference_values: {path} has {len(rows)} rows of numbers, and a scan needs two",
            name="reference_values",
            value=path,
            allowed="two rows or more",
        )
    known = sorted((_numbers(path, k, row) for k, row in enumerate(rows, 1)), key=itemgetter(0))
    if twice := [row[0] for row, other in pairwise(known) if row[0] == other[0]]:
        raise ConfigError(
            f"reference_values: {path} has several rows for {twice[0]:g}",
            name="reference_values",
            value=twice[0],
            remedy="leave one",
        )
    return known


def _numbers(path: str, k: int, row: list[str]) -> list[float | None]:
    cells = [cell.strip() for cell in row]
    if len(cells) not in (2, 3) or not all(map(_is_number, filter(None, cells))) or "" in cells[:2]:
        raise ConfigError(
            f"reference_values: row {k} of {path} is {','.join(row)!r};",
            name="reference_values",
            value=",".join(row),
            allowed=COLUMNS,
            remedy=f"expected {', '.join(COLUMNS)} (Å or degrees, eV, eV/Å or eV/rad; the force may be "
            "missing)",
        )
    return [float(cell) if cell else None for cell in [*cells, ""][:3]]


def _is_number(text: str) -> bool:
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False


def _values(options: Scan, known: list) -> np.ndarray:
    of_file = np.array([row[0] for row in known])
    if options.start is None or options.stop is None:
        return of_file
    values = np.linspace(options.start, options.stop, options.points or POINTS)
    if len(known) and not np.isin(values.round(6), of_file.round(6)).all():
        missing = values[~np.isin(values.round(6), of_file.round(6))][0]
        raise ConfigError(
            f"reference_values: {options.reference_values} has no value at {missing:g}, where the scan has a "
            "point",
            name="reference_values",
            value=float(missing),
            allowed=of_file.tolist(),
            remedy="leave start, stop and points empty to scan where the file has values",
        )
    return values


def _check_range(kind: str, values: np.ndarray) -> None:
    low, high = float(values.min()), float(values.max())
    if kind == "bond" and (low <= 0 or high > LONGEST_A):
        wrong = low if low <= 0 else high
        allowed = f"above 0, up to {LONGEST_A:g} Å"
        raise ConfigError(
            f"start and stop: a bond length of {wrong:g} Å is out of range ({allowed})",
            name="start and stop",
            value=wrong,
            allowed=allowed,
            remedy=unit_hint("length_A", wrong, [Gt(0), Le(LONGEST_A)]),
        )
    if kind == "angle" and (low < 0 or high > 180):
        raise ConfigError(
            "start and stop: an angle lies between 0 and 180 degrees",
            name="start and stop",
            value=(low, high),
            allowed="0 to 180 degrees",
        )


def _entries(options: Scan, first: BaseCalculator) -> list[LabelledCalculator]:
    specs: list[Any] = [options.calculator or first, *options.more_calculators]
    specs += [] if options.reference is None else [options.reference]
    calculators = [first, *map(make_calculator, specs[1:])]
    for calculator in calculators:
        need_energies(calculator, "A scan")
    n_models = len(specs) - (options.reference is not None)
    return [
        LabelledCalculator(label, calculator, k >= n_models)
        for k, (label, calculator) in enumerate(zip(_labels(specs), calculators, strict=True))
    ]


def _labels(specs: list[Any]) -> list[str]:
    """Names of calculators; where a name comes twice with the arguments that differ, then with numbers."""
    split = [_split(spec) for spec in specs]
    labels = []
    for name, arguments in split:
        others = [other for same, other in split if same == name]
        own = {
            key: arguments[key]
            for key in arguments
            if any(other.get(key) != arguments[key] for other in others)
        }
        listed = ", ".join(f"{key}: {value}" for key, value in own.items())
        labels.append(f"{name} ({listed})" if listed else name)
    return [
        f"{label} ({labels[:k].count(label) + 1})" if labels.count(label) > 1 else label
        for k, label in enumerate(labels)
    ]


def _split(spec: Any) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a calculator."""
    if isinstance(spec, Mapping):
        name, arguments = next(iter(spec.items()))
        return str(name), dict(arguments or {})
    return spec if isinstance(spec, str) else str(describe_calculator(spec)["name"]), {}


def _makers(options: Scan, labels: list[str]) -> dict[str, str]:
    maker = options.geometries or (labels[0] if options.kind == "rigid" else EACH)
    if maker == REFERENCE and options.reference is not None:
        maker = labels[-1]
    if maker == EACH:
        return {label: label for label in labels}
    if maker not in labels:
        raise ConfigError(
            f"geometries is {maker!r};",
            name="geometries",
            value=maker,
            allowed=[EACH, "reference", *labels],
            remedy=f"give 'each', 'reference' or one of {', '.join(labels)}",
        )
    return dict.fromkeys(labels, maker)


__getattr__ = renamed(__name__, {"Entry": "LabelledCalculator", "Plan": "ScanPlan"})
