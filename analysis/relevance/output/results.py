"""What an explanation found: frozen, written as JSON, CSV and extended XYZ, drawn by matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from asecalc_ml.analysis.base import Panel, Record, Result, Table, unknown_part_error
from asecalc_ml.analysis.relevance.output import figures, notebook, tables
from asecalc_ml.errors import AnalysisError
from asecalc_ml.files.writing import write_whole
from asecalc_ml.units import name_with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Vector = tuple[float, float, float]


class Structure(Record):
    """A structure and the value of the target there."""

    symbols: list[str]
    positions_A: list[Vector] = Field(description="positions, Å")
    cell_A: list[Vector] = Field(description="cell vectors as rows, Å")
    pbc: tuple[bool, bool, bool]
    value: float = Field(description="target, as the network gives it, in the target's unit")
    pairs: list[tuple[int, int]] = Field(description="listed pairs of atoms, i <= j")
    pair_shifts: list[tuple[int, int, int]] = Field(description="cell shifts from i to j of each pair")

    def to_atoms(self) -> Atoms:
        """The structure as ASE has it."""
        return Atoms(self.symbols, self.positions_A, cell=self.cell_A, pbc=self.pbc)


class Walk(Record):
    """A sequence of atoms that relevance flows along, from its source to the atom it is read out at."""

    atoms: list[int]
    relevance: float = Field(description="in the method's unit")


class FrameRelevance(Record):
    """A method's map of one structure."""

    atoms: list[float] = Field(description="relevance of each atom")
    pairs: list[float] = Field(description="relevance of each listed pair; empty where a method has none")
    absorbed: dict[str, float] = Field(
        {},
        description="parts of the target that no atom has, by what took them; with all atoms the target",
    )
    blocks: dict[str, list[float]] = Field({}, description="relevance of each atom by part of the network")
    walks: list[Walk] = Field([], description="largest walks")


class MethodRelevance(Record):
    """What one method found for all structures."""

    method: str
    title: str
    unit: str
    frames: list[FrameRelevance]

    @property
    def heading(self) -> str:
        """Name of the method, with the unit where there is one."""
        return name_with_unit(self.method, self.unit)


class RankCorrelation(Record):
    """Spearman's rank correlation between sizes of a method's relevance and of occlusion's, over atoms."""

    method: str
    mean: float | None = Field(description="over frames; None where all ranks are tied")
    lowest: float | None
    n_frames: int


class RelevanceResult(Result):
    """Relevance of atoms and pairs by one or several methods.

    Examples
    --------
    >>> from asecalc_ml.analysis import relevance
    >>> from asecalc_ml.structure.loading import load_structure
    >>> found = relevance.explain("torchmdnet-ethanol", load_structure("ethanol"), method="contributions")
    >>> found.atoms("contributions").shape
    (1, 9)
    """

    analysis: Literal["relevance"] = "relevance"
    model: str = Field(description="name of the model")
    model_hash: str | None = Field(description="SHA-256 of the model file")
    architecture: str
    target: str
    target_unit: str
    structures: list[Structure]
    methods: list[MethodRelevance]
    correlations: list[RankCorrelation] = Field([], description="of each method with occlusion")

    @property
    def what(self) -> str:
        """The target in words, such as "force on atom 2 → 1"."""
        kind, _, atoms = self.target.partition(":")
        if not atoms:
            return kind
        return f"{kind} {'on' if kind == 'force' else 'of'} atom {atoms.replace('-', ' → ')}"

    def of(self, method: str) -> MethodRelevance:
        """What a method found."""
        known = {relevance.method: relevance for relevance in self.methods}
        if method not in known:
            raise unknown_part_error("this result", "method", method, known)
        return known[method]

    def atoms(self, method: str) -> np.ndarray:
        """Relevance of each atom, shape (n_frames, n_atoms), for structures of equal size."""
        frames = [frame.atoms for frame in self.of(method).frames]
        if len({len(frame) for frame in frames}) > 1:
            raise AnalysisError("structures differ in size", remedy="read `of(method).frames` one by one")
        return np.array(frames)

    def panels(self) -> list[Panel]:
        return figures.panels(self)

    def _draw(self, ax: Axes, panel: str) -> None:
        figures.draw(self, ax, panel)

    def tables(self) -> list[Table]:
        return tables.tables(self)

    def data(self) -> list[Table]:
        return tables.data(self)

    def to_atoms(self) -> list[Atoms]:
        """Structures with a column of relevance for each method, ready for :func:`ase.io.write`."""
        return tables.to_atoms(self)

    def write(self, directory: str | Path) -> list[Path]:
        """As for every result: JSON and CSV; and the structures as extended XYZ beside them."""
        from ase.io import write  # imports SciPy

        for path in Path(directory).glob(f"{self.analysis}_*.csv"):  # of methods that are no longer there
            path.unlink()
        paths = super().write(directory)
        text = io.StringIO()
        write(text, self.to_atoms(), format="extxyz")
        path = Path(directory) / f"{self.analysis}.extxyz"
        write_whole(path, text.getvalue())
        return [*paths, path]

    def _repr_html_(self) -> str:
        return notebook.html(self)
