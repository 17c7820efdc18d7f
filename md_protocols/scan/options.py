"""Scans of one internal coordinate, with several calculators and a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from asecalc_ml.md_protocols.relax import RelaxOptions

if TYPE_CHECKING:
    from ase import Atoms

Spec = str | dict[str, dict[str, Any] | None]
N_ATOMS = (2, 3, 4)  # of a bond, an angle, a dihedral


class Scan(RelaxOptions):
    """Drive a bond, an angle or a dihedral; energy and projected force with several calculators."""

    protocol: Literal["scan"] = Field("scan", description="scan of a bond, an angle or a dihedral")
    default_analyses: ClassVar[tuple[str, ...]] = ("scan",)

    coordinate: str | list[int] = Field(
        description="two atoms for a bond, three for an angle, four for a dihedral, the last one moving: a "
        "pattern with one match (C-O, CH2-OH) or numbers from 0 ([1, 2])",
        examples=["C-O"],
    )
    molecule: int | None = Field(
        None, ge=0, description="number of the molecule, from 0, in which a pattern is sought"
    )
    start: float | None = Field(
        None, ge=-720, le=720, description="first value, Å or degrees; empty only with reference_values"
    )
    stop: float | None = Field(
        None, ge=-720, le=720, description="last value, Å or degrees; empty only with reference_values"
    )
    points: int | None = Field(
        None, ge=2, le=10_000, description="number of values from start to stop; empty for 31"
    )
    kind: Literal["rigid", "relaxed"] = Field(
        "rigid", description="move nothing else, or relax everything else at each value"
    )
    moves: Literal["fragment", "atom"] = Field(
        "fragment", description="what moves: all atoms behind the bond, or the last atom alone"
    )
    relax: bool = Field(True, description="relax the structure before a rigid scan")
    more_calculators: list[Spec] = Field([], description="calculators to compare, as in calculator")
    reference: Spec | None = Field(
        None, description="calculator that the others are held against, such as gfn2-xtb or pyscf-dft"
    )
    reference_values: str | None = Field(
        None, description="a CSV file in its place: value, energy (eV), and projected force if it is known"
    )
    geometries: str | None = Field(
        None,
        description="'each': every calculator makes its own; or 'reference', or the name of the one that "
        "makes those of all. By default the first makes those of a rigid scan, each those of a relaxed one",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Scan:
        if isinstance(self.coordinate, list) and len(self.coordinate) not in N_ATOMS:
            raise ValueError("coordinate: two atoms for a bond, three for an angle, four for a dihedral")
        if isinstance(self.coordinate, list) and self.molecule is not None:
            raise ValueError("molecule: it goes with a pattern, and coordinate names atoms by number")
        if self.reference is not None and self.reference_values is not None:
            raise ValueError("reference and reference_values: give one of the two")
        ends = (self.start, self.stop)
        if (None in ends and self.reference_values is None) or (ends.count(None) == 1):
            raise ValueError("start and stop: a scan needs its first and its last value")
        if None not in ends and self.start == self.stop:
            raise ValueError("start and stop are the same value")
        if self.start is None and self.points is not None:
            raise ValueError("points: without start and stop the values are those of reference_values")
        return self

    def check_start(self, atoms: Atoms) -> None:
        """Refuse what cannot be scanned, before anything is computed."""
        from asecalc_ml.md_protocols.scan.plan import ScanPlan

        ScanPlan.of(self, atoms).check()

    def stages(self) -> list:
        """The scan, which relaxes what it has to."""
        from asecalc_ml.md_protocols.scan.stage import ScanStage

        return [ScanStage(self)]
