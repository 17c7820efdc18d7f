"""Marks: where the growing files of a run stood at a checkpoint, so that a resumed run cuts them back."""

from __future__ import annotations

import os
from pathlib import Path

from asecalc_ml.errors import RunError
from asecalc_ml.files.full_disk import writing


def mark(path: Path, head_bytes: int = 0) -> dict:
    """Put a growing file, flushed before, on the disk itself.

    Parameters
    ----------
    path : Path
    head_bytes : int
        First bytes of the file that change while it grows, such as a number of frames; the rest is only
        appended to.

    Returns
    -------
    dict
        Length and first bytes of the file, for :func:`cut_back`.
    """
    with path.open("rb") as file:
        with writing(path):
            os.fsync(file.fileno())
        state: dict[str, int | str] = {"bytes": file.seek(0, os.SEEK_END)}
        if head_bytes:
            file.seek(0)
            state["head"] = file.read(head_bytes).hex()
        return state


def cut_back(path: Path, mark: dict) -> None:
    """Cut a growing file back to where it stood when :func:`mark` looked.

    Its first bytes are restored before it is truncated. Killed half-way, this can be done again.

    Raises
    ------
    RunError
        If the file is missing or shorter than it was.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size < mark["bytes"]:
        raise RunError(
            f"{path} has {size} bytes, and had {mark['bytes']} at the last checkpoint: it was damaged or "
            "replaced, and this run cannot be resumed.",
            name=str(path),
            value=size,
            allowed=f"at least {mark['bytes']} bytes",
            remedy="Start it anew with --overwrite.",
        )
    with path.open("r+b") as file:
        if "head" in mark:
            file.write(bytes.fromhex(mark["head"]))
        file.truncate(mark["bytes"])
        os.fsync(file.fileno())
