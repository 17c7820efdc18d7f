"""Read all structures of a file, or raise an error that names what cannot be read."""

from __future__ import annotations

import mmap
import re
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml.errors import AsecalcError, StructureError, StructureFileError
from asecalc_ml.structure.charge_and_spin import set_in_frames, unread_state
from asecalc_ml.structure.element_checks import check_elements
from asecalc_ml.structure.files.further_structure import line_of_further_structure
from asecalc_ml.structure.files.lazy_frames import LazyFrames
from asecalc_ml.structure.files.stated_charge_and_spin import add_stated
from asecalc_ml.structure.files.xyz_file import XYZFile, reason

if TYPE_CHECKING:
    from ase import Atoms

COMPRESSED = (".gz", ".bz2", ".xz")
#: Text that begins or ends each frame, in formats of which ASE may silently read fewer frames.
MARKS = {
    "vasp-xdatcar": rb"(?m)configuration=",
    "lammps-dump-text": rb"(?m)^ITEM: TIMESTEP",
    "proteindatabank": rb"(?m)^MODEL\s",
    "sdf": rb"(?m)^\$\$\$\$",
    "mol": rb"(?m)^M  END",
    "res": rb"(?m)^TITL",
    "gromos": rb"(?m)^POSITION(RED)?\s*$",
    "turbomole": rb"(?m)^\$coord\b",
    "dmol-incoor": rb"(?m)^\$coordinates",
    "castep-cell": rb"(?mi)^\s*%block\s+positions_(frac|abs)\s*$",
    "espresso-in": rb"(?mi)^\s*atomic_positions",
    "lammps-data": rb"(?m)^[ \t]*Atoms\b",
    "jsv": rb"(?m)^\s*\[atoms\]",
    "magres": rb"(?m)^\s*[<[]atoms[]>]",
    "nwchem-in": rb"(?mi)^\s*geometry\b",
    "onetep-in": rb"(?mi)^\s*%block\s+positions_(frac|abs)\s*$",
    "abinit-in": rb"(?mi)^\s*(xred|xcart|xangst)\b",
}
#: The same for outputs of calculations, whose last step may be incomplete.
OUTPUT_MARKS = {"vasp-out": rb"TOTAL-FORCE \(eV", "vasp-xml": rb"<calculation>"}
#: Formats of one structure that are outputs or not text.
NOT_SEARCHED = (
    "abinit-gsr",
    "castep-phonon",
    "cmdft",
    "dacapo-text",
    "gamess-us-punch",
    "gpw",
    "lammps-dump-binary",
    "wout",
)
CHECK_FORMAT = (
    "check that it is complete, and in a format that ASE knows by its name (.xyz, .traj, .cif, POSCAR ...), "
    "or a data set by its `file_format`"
)
#: First bytes of formats that count their frames.
MAGIC = {
    "traj": b"- of UlmASE-Trajectory  ",
    "h5md": b"\x89HDF\r\n\x1a\n",
    "db": b"SQLite format 3\0",
}
#: Text that names the elements, in formats whose types 1, 2 ... ASE otherwise takes as H, He ...
ELEMENTS = {
    "lammps-dump-text": (
        rb"(?m)^ITEM: ATOMS\b.*\s(element|mass)\b",
        "add a column `element` (`dump_modify ID element O H`)",
    ),
    "lammps-data": (
        rb"(?m)^\s*(Masses|Atom Type Labels)\b",
        "add the section `Masses` or `Atom Type Labels`",
    ),
}


def open_structures(path: str | Path, file_format: str | None = None) -> LazyFrames:
    """Open a file of structures; each structure is parsed when it is taken.

    Parameters
    ----------
    path : str or Path
        May be compressed (.gz, .bz2, .xz).
    file_format : str, optional
        ASE's name of the format; by default found from the name and the first bytes.

    Returns
    -------
    LazyFrames
        With what the file has of results, momenta, masses and constraints.

    Raises
    ------
    StructureFileError
        If the file cannot be read, holds frames that ASE would leave out, or sites that
        :func:`asecalc_ml.structure.element_checks.check_elements` refuses; now or when a structure is taken.
    """
    path = Path(path)
    try:
        frames = _opened(path, file_format or _format_of(path))
    except StructureFileError:
        raise
    except Exception as error:  # ASE's readers raise whatever their parsing meets
        raise _file_error(error, path) from error
    warn = _Once()
    return LazyFrames(len(frames), lambda numbers: _checked(path, frames, numbers, warn))


def read_structures(path: Path) -> list[Atoms]:
    """All structures of a file, with charge and spin in ``info``.

    Raises
    ------
    StructureFileError
        As for :func:`open_structures`.
    StructureError
        If a charge or spin is no whole number; the message names the frame.
    """
    structures = list(open_structures(path))
    set_in_frames(structures, str(path))
    return structures


def _opened(path: Path, file_format: str) -> Sequence[Atoms]:
    if file_format in ("extxyz", "xyz"):
        return XYZFile(path, file_format == "extxyz")
    is_known = file_format in MAGIC and _begins_with(path, MAGIC[file_format])
    if path.suffix not in COMPRESSED and file_format in ("traj", "h5md"):
        return _opened_traj(path, is_known) if file_format == "traj" else _opened_h5md(path)
    return _read(path, file_format)


def _format_of(path: Path) -> str:
    from ase.io.formats import filetype

    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSED]
    return "extxyz" if suffixes[-1:] in ([".xyz"], [".extxyz"]) else filetype(str(path))


class _Once:
    """Issues the first warning it receives, and no other."""

    def __init__(self) -> None:
        self._is_new = True

    def __call__(self, text: str) -> None:
        if self._is_new:
            warnings.warn(text, stacklevel=3)
        self._is_new = False


def _checked(
    path: Path, frames: Sequence[Atoms], numbers: range, warn: Callable[[str], None]
) -> Iterator[Atoms]:
    taken = frames.make(numbers) if isinstance(frames, LazyFrames) else map(frames.__getitem__, numbers)
    for number in numbers:
        try:
            atoms = next(taken)
            check_elements(atoms)
        except StructureFileError:
            raise
        except Exception as error:  # ASE's readers raise whatever their parsing meets
            raise _file_error(error, path, f", frame {number}") from error
        if unread := unread_state(atoms):
            warn(f"{path}, frame {number}: {unread}")
        yield atoms


def _opened_traj(path: Path, is_known: bool) -> LazyFrames:
    from ase.io.trajectory import TrajectoryReader

    from asecalc_ml.runs.trajectories.traj_reader import TrajFile

    if path.stat().st_size == 0:
        return LazyFrames(0, iter)
    if is_known and (lost := TrajFile(path).n_lost):
        raise StructureFileError(
            f"{path} was cut short: its last {lost} frames are incomplete.",
            name=str(path),
            value=lost,
            remedy="Copy the complete file again",
        )
    trajectory = TrajectoryReader(path)
    frames = LazyFrames(len(trajectory), lambda numbers: map(trajectory.__getitem__, numbers))
    weakref.finalize(frames, trajectory.close)
    return frames


def _opened_h5md(path: Path) -> LazyFrames:
    from asecalc_ml.runs.trajectories.h5md_reader import H5MDFile

    file = H5MDFile(path)
    return LazyFrames(file.n_frames, lambda numbers: file.structures(file.start, numbers))


@contextmanager
def _content(path: Path) -> Iterator[bytes | mmap.mmap]:
    from ase.io.formats import open_with_compression

    with open_with_compression(str(path), "rb") as file:
        if path.suffix in COMPRESSED:
            yield file.read()
        else:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                yield content


def _begins_with(path: Path, magic: bytes) -> bool:
    """True if a file begins with the first bytes of its format, which are refused anywhere else in it."""
    if path.stat().st_size == 0:
        return False
    with _content(path) as content:
        if (place := content.find(magic, 1)) > 0:
            raise StructureFileError(
                f"{path} consists of several concatenated files (the second begins at byte {place}), and "
                "only the first can be read.",
                name=str(path),
                value=place,
                remedy="Join such files with `ase convert FIRST SECOND JOINED`",
            )
        return content[: len(magic)] == magic


def _read(path: Path, file_format: str) -> list[Atoms]:
    from ase.io import read

    frames = read(path, index=":", format=file_format, do_not_split_by_at_sign=True)
    if not all(map(len, frames)):
        raise StructureFileError(
            f"{path}: ASE's reader of {file_format} finds no atoms in it",
            name=str(path),
            value=file_format,
            remedy="check that the file is complete, and of this format",
        )
    if file_format in ELEMENTS:
        _check_elements_are_named(path, *ELEMENTS[file_format])
    if marks := MARKS.get(file_format) or OUTPUT_MARKS.get(file_format):
        _compare(path, len(frames), marks, file_format in MARKS)
    elif len(frames) == 1 and _is_input_of_one(file_format):
        _refuse_further_structure(path, file_format, frames[0])
    add_stated(frames, path, file_format)
    return frames


def _is_input_of_one(file_format: str) -> bool:
    from ase.io.formats import ioformats

    known = ioformats[file_format]
    if file_format in NOT_SEARCHED or file_format.endswith("-out"):
        return False
    return file_format == "xsf" or (known.single and not known.isbinary)


def _refuse_further_structure(path: Path, file_format: str, first: Atoms) -> None:
    if path.is_dir():
        return
    with _content(path) as content:
        line = line_of_further_structure(content[:], file_format, first)
    if line:
        raise StructureFileError(
            f"{path} has a further structure at line {line}, and its format ({file_format}) holds one",
            name=str(path),
            value=line,
            remedy="put each into a file of its own, or join the files with "
            "`ase convert FIRST SECOND JOINED.xyz`",
        )


def _check_elements_are_named(path: Path, names: bytes, remedy: str) -> None:
    with _content(path) as content:
        if not re.search(names, content):
            raise StructureFileError(
                f"{path} has types of atoms and not their elements, and ASE would take type 1 as H and type "
                "2 as He",
                name=str(path),
                remedy=f"{remedy}, or convert the file with the elements named",
            )


def _compare(path: Path, n_frames: int, marks: bytes, has_to_be_whole: bool) -> None:
    with _content(path) as content:
        places = [match.start() for match in re.finditer(marks, content)]
        if len(places) <= n_frames:
            return
        line = content[: places[n_frames]].count(b"\n") + 1
    text = f"{path} has {len(places)} frames, and ASE reads {n_frames} of them, not the one at line {line}"
    if has_to_be_whole:
        raise StructureFileError(
            text,
            name=str(path),
            value=line,
            remedy="repair or cut the file there, or convert it to extended XYZ",
        )
    warnings.warn(f"{text}: it is incomplete, or its calculation has not ended", stacklevel=4)


def _file_error(error: Exception, path: Path, where: str = "") -> StructureFileError:
    """Whatever a reader raised, as an error that names the file."""
    if isinstance(error, StructureError):
        return error.at(f"{path}{where}").as_kind(StructureFileError)
    if isinstance(error, AsecalcError):
        return error.as_kind(StructureFileError)
    text, attributes = reason(error)
    attributes = {"name": str(path), "remedy": CHECK_FORMAT} | attributes
    return StructureFileError(f"cannot read {path}{where} ({text})", **attributes)
