"""H5MD for ASE: ``ase.io.read("trajectory.h5md", ":")`` and whatever else reads files by it.

ASE finds the format by the entry point in ``setup.cfg``, and the function by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ase.utils.plugins import ExternalIOFormat

if TYPE_CHECKING:
    from ase import Atoms

FORMAT = ExternalIOFormat(
    desc="H5MD trajectory of asecalc-ml",
    code="+S",
    module="asecalc_ml.runs.trajectories.ase_format",
    ext="h5md",
)


def read_h5md(filename: str | Path, index: slice) -> Iterator[Atoms]:
    """Frames with momenta, energy and forces."""
    from asecalc_ml.runs.trajectories.h5md_reader import H5MDFile

    file = H5MDFile(Path(filename))
    chosen = range(file.n_frames)[index]
    return file.structures(file.start, chosen) if chosen else iter(())
