"""The summary of the labels as text, as warnings and as JSON."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from asecalc_ml.errors import DatasetError
from asecalc_ml.terminal.console import make_console

MANY = 6  # compositions, or pairs of elements, above which only some are named


@dataclass(frozen=True)
class LabelReport:
    """Summary of the labels, with warnings about contradictions.

    Parameters
    ----------
    n_frames : dict
        Frames of each part of the data.
    compositions : dict
        Frames of each formula, the most frequent first.
    energy_per_atom_eV : tuple of float, optional
        Lowest, median and highest; None where no frame has an energy.
    energy_spread_meV_atom : float, optional
        Root mean square of energies per atom after a least-squares fit of one energy per element.
    forces_rms_eV_A : float, optional
        Root mean square force component.
    largest_net_force_eV_A : float, optional
        Largest sum of the forces of a frame.
    shortest_distances_A : dict
        By pair of elements.
    n_frames_searched : int
        Frames that the shortest distances are of.
    n_duplicates : int
        Frames that repeat an earlier one.
    copies_of_training : dict
        Frames of each other part that are copies of training frames.
    slope : float, optional
        Energy differences of near frames over those that their forces predict; None where undecided.
    explained : float
        Share of the energy differences that the forces explain.
    n_pairs : int
        Pairs of near frames that were compared.
    warnings : list of str
        Contradictions, each with a remedy.
    """

    n_frames: dict[str, int]
    compositions: dict[str, int]
    energy_per_atom_eV: tuple[float, float, float] | None
    energy_spread_meV_atom: float | None
    forces_rms_eV_A: float | None
    largest_net_force_eV_A: float | None
    shortest_distances_A: dict[str, float]
    n_frames_searched: int
    n_duplicates: int
    copies_of_training: dict[str, int]
    slope: float | None
    explained: float
    n_pairs: int
    warnings: list[str]

    def __str__(self) -> str:
        rows = [(name, text) for name, text in self._rows() if text]
        width = max(len(name) for name, _ in rows)
        return "\n".join(["Labels", *(f"  {name:<{width}}  {text}" for name, text in rows)])

    def _rows(self) -> Iterator[tuple[str, str]]:
        total = sum(self.n_frames.values())
        parts = ", ".join(f"{name} {n}" for name, n in self.n_frames.items())
        yield "frames", f"{total}" + (f" ({parts})" if len(self.n_frames) > 1 else "")
        yield "compositions", _some(f"{formula} {n}" for formula, n in self.compositions.items())
        if self.energy_per_atom_eV is not None:
            low, middle, high = self.energy_per_atom_eV
            yield "energy per atom", f"{middle:.4f} eV (median), from {low:.4f} to {high:.4f}"
            yield "  after a fit per element", f"{self.energy_spread_meV_atom:.4g} meV (rms)"
        if self.forces_rms_eV_A is not None:
            yield "force component", f"{self.forces_rms_eV_A:.4g} eV/Å (rms)"
            yield "largest net force", f"{self.largest_net_force_eV_A:.2g} eV/Å"
            yield "energies against forces", self._agreement()
        shortest = sorted(self.shortest_distances_A.items(), key=lambda item: item[1])
        sampled = "" if self.n_frames_searched == total else f" (of {self.n_frames_searched} frames)"
        yield "shortest distances", _some(f"{pair} {d:.2f}" for pair, d in shortest) + " Å" + sampled
        yield "duplicates", str(self.n_duplicates)
        copies = ", ".join(f"{n} in {part}" for part, n in self.copies_of_training.items())
        yield "copies of training frames", copies

    def _agreement(self) -> str:
        if self.slope is None:
            return f"undecided ({self.n_pairs} pairs of near frames)"
        return f"slope {self.slope:.3f} (1 is right), {self.n_pairs} pairs of near frames"

    def show(self, quiet: bool = False, strict: bool = False) -> None:
        """Print the summary and warn of each contradiction.

        Parameters
        ----------
        quiet : bool
            Print no summary.
        strict : bool
            Refuse labels that contradict themselves.

        Raises
        ------
        DatasetError
            If ``strict`` is true and there is a contradiction.
        """
        if not quiet:
            with contextlib.suppress(OSError, SystemExit):  # rich exits where nobody reads any more
                make_console().print(str(self), soft_wrap=True)
        if strict and self.warnings:
            sentences = [f"{text[0].upper()}{text[1:]}." for text in self.warnings]
            problem = " ".join(["labels that contradict themselves are refused.", *sentences])
            raise DatasetError(problem, value=self.warnings)
        for text in self.warnings:
            warnings.warn(f"{text}.", stacklevel=2)

    def as_json(self) -> str:
        """Everything, as the text of a JSON file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def _some(texts: Iterable[str]) -> str:
    texts = list(texts)
    more = f", and {len(texts) - MANY} more" if len(texts) > MANY else ""
    return ", ".join(texts[:MANY]) + more
