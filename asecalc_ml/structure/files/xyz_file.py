"""Reads XYZ and extended XYZ. Frames are located here, line by line; ASE parses each of them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asecalc_ml.errors import StructureFileError
from asecalc_ml.structure.element_checks import ISOTOPES
from asecalc_ml.structure.files.lazy_frames import LazyFrames
from asecalc_ml.structure.files.stored_constraints import grouped

if TYPE_CHECKING:
    from ase import Atoms

CLOSED = re.compile(r"""\\.|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\{(?:\\.|[^}\\])*\}|\[(?:\\.|[^]\\])*\]""")
OPEN = re.compile(r"""["'{[].*""")
PROPERTIES = re.compile(r'\bProperties\s*=\s*"?([^\s"]+)')
KEYS = re.compile(r"\b(lattice|properties|pbc)\s*=", re.IGNORECASE)
SPELLED = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
TENSORS = re.compile(r'(?:^|\s)(stress|virial)\s*=\s*(?:"([^"]*)"|\{([^}]*)\})')
EXPONENT = re.compile(r"\d\.?[dD][+-]?\d")  # of Fortran
ASYMMETRY = 0.01  # largest part of a stress by which numbers that should be equal may differ
FEWEST_COLUMNS = 4  # symbol and position


class XYZFile(LazyFrames):
    """All frames of an XYZ file.

    ASE's own reader stops at the first empty line. Here empty lines between frames and at the end are
    skipped, and every other line belongs to a frame.

    Parameters
    ----------
    path : Path
        May be compressed (.gz, .bz2, .xz).
    is_extended : bool
        True if the second line of a frame holds keys and values; otherwise it is a comment.

    Raises
    ------
    StructureFileError
        If a line belongs to no frame, or a frame is not whole.
    """

    def __init__(self, path: Path, is_extended: bool = True):
        self._path, self._is_extended = path, is_extended
        self._lines = _lines_of(path)
        self._places = list(self._find_frames())
        super().__init__(len(self._places), lambda numbers: map(self._frame, numbers))

    def _find_frames(self) -> Iterator[tuple[int, int]]:
        """First line of each frame, and the line after its last one."""
        lines, place, before = self._lines, 0, None
        while place < len(lines):
            line = lines[place].strip()
            if line:
                begin, place = place, self._end(place, line, before)
                before = begin
                yield begin, place
            else:
                place += 1

    def _end(self, place: int, line: str, before: int | None) -> int:
        lines = self._lines
        if not (line.isascii() and line.isdigit() and int(line)):
            text = f"{_short(line)} where a frame begins with its number of atoms"
            remedy = None if before is None else f"check the number of atoms in line {before + 1}"
            raise self._error(place, text, value=line, remedy=remedy)
        end = place + 2 + int(line)
        if end > len(lines):
            n_there = max(len(lines) - place - 2, 0)
            raise self._error(
                place,
                f"a frame of {line} atoms begins, and {n_there} rows follow: the file was cut short.",
                value=n_there,
                allowed=f"{line} rows",
                remedy="Copy it again, or remove that frame",
            )
        while end < len(lines) and lines[end].lstrip().startswith("VEC"):  # a cell, as ADF writes it
            end += 1
        return end

    def _frame(self, number: int) -> Atoms:
        begin, end = self._places[number]
        if self._is_extended:
            self._check_comment(begin + 1)
        self._check_rows(begin, end)
        n_rows = int(self._lines[begin])
        head = ["1", self._lines[begin + 1] if "=" in self._lines[begin + 1] or not self._is_extended else ""]
        rows = range(begin + 2, begin + 2 + n_rows)
        try:
            atoms = self._parsed([str(n_rows), head[1], *self._lines[rows.start : rows.stop]])
        except Exception as error:  # ASE's readers raise whatever their parsing meets
            place = self._faulty_line(head, rows)
            text, attributes = reason(error)
            if EXPONENT.search(self._lines[place]):
                attributes["remedy"] = "write exponents as E, not as D"
            raise self._error(place, f"frame {number} cannot be read ({text})", **attributes) from error
        self._set_vectors(atoms, range(rows.stop, end), head[1])
        if len(atoms.constraints) > 1:
            atoms.set_constraint(grouped(atoms))
        return atoms

    def _set_vectors(self, atoms: Atoms, places: range, comment: str) -> None:
        """Set the cell that ADF writes below the atoms; ASE would leave out the keys of such a frame."""
        if places and self._is_extended and "Lattice" in comment:
            raise self._error(
                places[0], "a cell in rows VEC, and another one as `Lattice`", remedy="remove one"
            )
        for number, place in enumerate(places):
            name, *numbers = self._lines[place].split()
            try:
                atoms.cell[number] = [float(value) for value in numbers]
                atoms.pbc[number] = True
            except (ValueError, IndexError):
                name = ""
            if name != f"VEC{number + 1}":
                line = self._lines[place]
                text = f"{_short(line)} where VEC{number + 1} has three numbers"
                raise self._error(place, text, value=line, allowed=f"VEC{number + 1} with three numbers")

    def _faulty_line(self, head: list[str], rows: range) -> int:
        """The first row that cannot be read alone; the comment if no row can."""
        faulty = [row for row in rows if not self._is_readable([*head, self._lines[row]])]
        if faulty and self._is_extended and not self._is_readable(["0", head[1]]):
            return rows.start - 1
        return faulty[0] if faulty else rows.start - 2

    def _is_readable(self, lines: list[str]) -> bool:
        try:
            self._parsed(lines)
        except Exception:  # ASE's readers raise whatever their parsing meets
            return False
        return True

    def _parsed(self, lines: list[str]) -> Atoms:
        read = _reader(self._is_extended)
        try:
            return next(read(io.StringIO("\n".join([*lines, ""])), slice(None)))
        except KeyError as error:
            if error.args[0] not in ISOTOPES:
                raise
        return _with_isotopes(lines, read)

    def _check_comment(self, place: int) -> None:
        comment = self._lines[place]
        for key in KEYS.findall(comment):
            if key != SPELLED[key.lower()]:
                spelled = SPELLED[key.lower()]
                raise self._error(
                    place, f"`{key}` has to be spelled `{spelled}`", value=key, allowed=(spelled,)
                )
        if _swallows_a_key(comment):
            raise self._error(
                place, "a quote or bracket is opened and not closed, and keys are lost in it", value=comment
            )
        for key, *texts in TENSORS.findall(comment):
            if said := _wrong_tensor("".join(texts)):
                raise self._error(
                    place,
                    f"`{key}` {said}. It has to be nine numbers, the rows of a symmetric matrix;",
                    value=key,
                    allowed="nine numbers, the rows of a symmetric matrix",
                    remedy=f"rename the key of six, xx yy zz yz xz xy, and name it with `{key}_key`",
                )

    def _check_rows(self, begin: int, end: int) -> None:
        properties = PROPERTIES.search(self._lines[begin + 1]) if self._is_extended else None
        n_columns = _n_columns(properties[1]) if properties else None
        for place in range(begin + 2, begin + 2 + int(self._lines[begin])):
            n_there = len(self._lines[place].split())
            if n_there < FEWEST_COLUMNS if n_columns is None else n_there != n_columns:
                least = f"at least {FEWEST_COLUMNS}" if n_columns is None else str(n_columns)
                raise self._error(
                    place,
                    f"{n_there} columns ({_short(self._lines[place])}) where an atom has {least}",
                    value=n_there,
                    allowed=f"{least} columns",
                    remedy=f"check the number of atoms in line {begin + 1}",
                )

    def _error(self, place: int, text: str, **attributes: Any) -> StructureFileError:
        problem = f"cannot read {self._path}, line {place + 1}: {text}"
        return StructureFileError(problem, name=str(self._path), **attributes)


def _swallows_a_key(comment: str) -> bool:
    """Return True if an unclosed quote or bracket takes in what should be a key and its value."""
    unclosed = OPEN.search(CLOSED.sub("", comment))
    return unclosed is not None and any("=" in text for text in (unclosed[0], *CLOSED.findall(comment)))


def _wrong_tensor(text: str) -> str | None:
    """Describe what is wrong with nine or six numbers of a stress, of which ASE reads six unchecked."""
    try:
        numbers = [float(value) for value in text.replace(",", " ").split()]
    except ValueError:  # an error of ASE's reader
        return None
    if len(numbers) != 9:
        return f"has {len(numbers)} components"
    pairs = ((numbers[1], numbers[3]), (numbers[2], numbers[6]), (numbers[5], numbers[7]))
    is_symmetric = all(abs(one - other) <= ASYMMETRY * max(map(abs, numbers)) for one, other in pairs)
    return None if is_symmetric else "is not symmetric"


def reason(error: Exception) -> tuple[str, dict[str, str]]:
    """Describe an exception of ASE's readers in words, and in attributes of an AsecalcError."""
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
        symbol = error.args[0]
        if symbol in ISOTOPES:
            remedy = "write H there, and its mass where the format has masses"
            return f"{symbol!r} is an isotope", {"value": symbol, "remedy": remedy}
        return f"{symbol!r} is no symbol of an element", {"value": symbol}
    return f"{type(error).__name__}: {error}", {}


def _lines_of(path: Path) -> list[str]:
    """Lines without line ends of any system, up to the last one that is not empty."""
    from ase.io.formats import open_with_compression

    with open_with_compression(str(path), "rb") as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig")  # without a byte order mark
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise StructureFileError(
            f"cannot read {path}, line {line}: bytes that are not UTF-8 text.",
            name=str(path),
            remedy="Save it as UTF-8",
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n") if text.strip() else []


def _reader(is_extended: bool) -> Callable:
    if is_extended:
        from ase.io.extxyz import read_xyz
    else:
        from ase.io.xyz import read_xyz
    return read_xyz


def _with_isotopes(lines: list[str], read: Callable) -> Atoms:
    """Parse a frame with D and T as H of their masses, unless it has a column of masses."""
    head, rows = lines[:2], lines[2:]
    symbols = [row.split(maxsplit=1)[0] for row in rows]
    rows = [
        row.replace(symbol, "H", 1) if symbol in ISOTOPES else row
        for row, symbol in zip(rows, symbols, strict=True)
    ]
    atoms = next(read(io.StringIO("\n".join([*head, *rows, ""])), slice(None)))
    if not atoms.has("masses"):
        atoms.set_masses([ISOTOPES.get(symbol) for symbol in symbols[: len(atoms)]])
    return atoms


def _n_columns(properties: str) -> int | None:
    counts = properties.split(":")[2::3]
    return sum(map(int, counts)) if counts and all(map(str.isdigit, counts)) else None


def _short(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
