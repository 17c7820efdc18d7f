"""Structures that a command names: a shipped one, a file, a data set, or a run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from asecalc_ml import config, plugins
from asecalc_ml.errors import ConfigError, StructureError
from asecalc_ml.structure.frames import selected_numbers

if TYPE_CHECKING:
    from ase import Atoms

READERS = {".npz": "rmd17", ".json": "mlearn", ".h5": "ani1"}  # by suffix; ASE reads all others


def read_structures(spec: str) -> list[Atoms]:
    """All frames of a structure (a name or a file), a data set or a run directory."""
    from asecalc_ml.structure import reading
    from asecalc_ml.structures import load_structure, shipped_names

    path = Path(spec)
    if path.is_dir():
        return _of_run(path)
    if path.is_file() and spec not in shipped_names():
        return _of_data(path) if path.suffix in READERS else reading.read_structures(path)
    return [load_structure(spec)]


def _of_run(directory: Path) -> list[Atoms]:
    """Frames with what the structure at the start says of charge and spin; those that can be read."""
    from asecalc_ml.analysis.pipeline import lost_frames_text
    from asecalc_ml.rundir import RunReader

    run = RunReader(directory)
    if run.n_frames == 0:
        raise StructureError(f"{directory} holds no frame: the run ended before its first one was written")
    if lost := run.n_lost_frames:
        warnings.warn(lost_frames_text(run.n_frames, lost), stacklevel=2)
    frames = []
    for chunk in run.frame_chunks():
        for positions, cell in zip(chunk.positions, chunk.cells, strict=True):
            atoms = run.atoms.copy()
            atoms.cell[:], atoms.positions[:] = cell, positions
            frames.append(atoms)
    return frames


def _of_data(path: Path) -> list[Atoms]:
    name = READERS[path.suffix]
    return config.parse_options({"format": name, "path": str(path)}, plugins.get("datasets", name)).read()


def select_frames(structures: list[Atoms], frames: str) -> list[Atoms]:
    """Frames by a slice or a number, as in Python."""
    try:
        wanted = frames if ":" in frames else f"{int(frames)}:{int(frames) + 1 or ''}"
        chosen = [structures[k] for k in selected_numbers(wanted, len(structures), "the data")]
    except ValueError:
        raise ConfigError(f"frames is {frames!r}; give a slice such as 0:500:10, or one number") from None
    if not chosen:
        raise ConfigError(f"frames {frames!r} selects none of the {len(structures)} there are")
    return chosen
