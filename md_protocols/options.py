"""What the options of every protocol have in common."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from asecalc_ml.config import Options

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.rundir import RunReader


class ProtocolOptions(Options):
    """Base of all protocols: what runs, with which calculator, and where to.

    A protocol adds its own options and says in :meth:`stages` what is done with them.
    """

    protocol: str = Field(description="name of the protocol")
    structure: str | None = Field(
        None,
        description="a name (ethanol), 'smiles:CCO', or a file (frames.xyz, frames.xyz@-1)",
    )
    calculator: str | dict[str, dict[str, Any] | None] | None = Field(
        None,
        description="a registered model, committee, gfn2-xtb, or 'module:Class' of any ASE calculator; with "
        "arguments as in {NAME: {dtype: float64, corrections: [zbl]}}",
    )
    directory: str | None = Field(
        None,
        description="run directory; by default runs/NAME for NAME.yaml, runs/PROTOCOL-STRUCTURE in Python",
    )
    seed: int = Field(0, ge=0, description="seed of every random number")
    threads: int = Field(1, ge=1, description="CPU threads; small molecules are fastest with one")
    write_every: int = Field(10, ge=1, description="steps from frame to frame of the trajectory")
    thermo_every: int = Field(10, ge=1, description="steps from row to row of thermo.csv")
    checkpoint_every: int = Field(1000, ge=1, description="steps from checkpoint to checkpoint")
    analyses: dict[str, dict[str, Any] | None] | None = Field(
        None, description="analyses by name, each with its options; by default those that always make sense"
    )

    def run(
        self,
        atoms: Atoms | None = None,
        directory: str | Path | None = None,
        overwrite: bool = False,
        quiet: bool = False,
    ) -> RunReader:
        """Run the protocol.

        Parameters
        ----------
        atoms : Atoms, optional
            In place of ``structure``; it is copied, and stays as it is. Its calculator is used where
            ``calculator`` is not given.
        directory : str or Path, optional
            In place of ``directory``.
        overwrite : bool
            Replace a run that is there.
        quiet : bool
            Print nothing.

        Returns
        -------
        RunReader

        Raises
        ------
        ConfigError
            If structure or calculator are missing.
        RunError
            If the directory cannot be used, or the run cannot go on; the last good state is kept.
        """
        from asecalc_ml.md_protocols.launch import start_run

        return start_run(self, atoms, directory, overwrite, quiet)

    def check_start(self, atoms: Atoms) -> None:
        """Refuse a structure that the protocol cannot start from, with a StructureError."""

    def stages(self) -> list:
        """What is done, in order: objects of :mod:`asecalc_ml.md_protocols.stages`, or of that kind."""
        raise NotImplementedError

    @property
    def frame_interval_fs(self) -> float:
        """Time from frame to frame of the trajectory."""
        raise NotImplementedError

    def default_directory(self) -> Path:
        """Where a run of Python goes that was not told: runs/nve-ethanol."""
        text = self.structure or "atoms"
        text = Path(text).stem if "/" in text else text
        return Path("runs") / f"{self.protocol}-{re.sub(r'[^A-Za-z0-9._+-]+', '-', text)}"
