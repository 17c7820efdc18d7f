"""Labels on disk while structures are being labelled, so that an interruption loses none of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asecalc_ml.errors import DatasetError
from asecalc_ml.files.full_disk import reason
from asecalc_ml.files.writing import GrowingText, cut_to_whole_lines
from asecalc_ml.structure.charge_and_spin import charge_and_spin

if TYPE_CHECKING:
    from ase import Atoms

Labels = dict[str, Any]  # by ASE's names: numbers and nested lists, ready for JSON


class LabelRecord:
    """Labels of one reference, in a file beside the one that they are computed for.

    The first line describes the reference, every other line holds the labels of one structure.

    Parameters
    ----------
    output : Path
        File that the labels are computed for.
    reference : dict
        Description of the reference, ready for JSON, see
        :func:`asecalc_ml.calculators.factory.describe_calculator`.

    Raises
    ------
    DatasetError
        If the record exists and holds labels of another reference, or cannot be written.
    """

    def __init__(self, output: Path, reference: dict[str, Any]):
        self.path = output.with_name(f"{output.name}.unfinished.jsonl")
        self._known: dict[str, Labels] = {}
        try:
            self._open(json.dumps(reference, sort_keys=True))
        except OSError as error:
            raise self.error_of_writing(error) from error

    def _open(self, reference: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        cut_to_whole_lines(self.path)  # a kill may have left the beginning of one
        if self.path.is_file():
            first, *lines = self.path.read_text(encoding="utf-8").splitlines() or [reference]
            self._check_reference(first, reference)
            self._known = {entry["structure"]: entry["labels"] for entry in map(json.loads, lines)}
        self._text = GrowingText(self.path, reference)

    def _check_reference(self, kept: str, reference: str) -> None:
        if kept != reference:
            name = json.loads(kept).get("name")
            raise DatasetError(
                f"{self.path} holds labels that an interrupted labelling with another reference, or other "
                f"versions of it, has left ({name});",
                name=str(self.path),
                value=name,
                remedy="give the reference of before to continue it, remove this file to begin anew, or "
                "choose another output",
            )

    def __len__(self) -> int:
        return len(self._known)

    def find(self, number: int, atoms: Atoms) -> Labels | None:
        """Labels of the structure with this number in the file, if they are on record."""
        return self._known.get(_key(number, atoms))

    def add(self, number: int, atoms: Atoms, labels: Labels) -> None:
        """Put labels on record, at once.

        Raises
        ------
        DatasetError
            If the disk is full.
        """
        key = _key(number, atoms)
        try:
            self._text.append(json.dumps({"structure": key, "labels": labels}))
            self._text.flush()
        except OSError as error:
            raise self.error_of_writing(error) from error
        self._known[key] = labels

    def remove(self) -> None:
        """Remove the record, which is needed no more."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file and keep it, unless it holds no labels."""
        self._text.close()
        if not self._known:
            self.path.unlink(missing_ok=True)

    def error_of_writing(self, error: OSError) -> DatasetError:
        """Return what a user is told about a disk that is full."""
        problem = f"cannot write {self.path}: {reason(error, self.path)}."
        return DatasetError(problem, name=str(self.path), remedy=f"Free space. {self.kept}".rstrip())

    @property
    def kept(self) -> str:
        """Sentence on what an interruption leaves; empty if that is nothing."""
        if not self._known:
            return ""
        kept = f"Labels of {len(self)} structures are kept in {self.path}"
        return f"{kept}: the same command continues from there."


def _key(number: int, atoms: Atoms) -> str:
    """Number of a structure, and a hash of everything that a reference may compute from."""
    parts = [atoms.cell.array.tobytes(), atoms.pbc.tobytes(), repr(charge_and_spin(atoms)).encode()]
    for name in sorted(atoms.arrays):
        values = atoms.arrays[name]
        parts += [
            name.encode(),
            repr(values.tolist()).encode() if values.dtype == object else values.tobytes(),
        ]
    return f"{number}-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:32]}"
