"""Options that every protocol has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from asecalc_ml.config import Options

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.rundir import RunReader


class ProtocolOptions(Options):
    """What to run, with which calculator, and where the run goes.

    A protocol is an option model; :meth:`run` does it. YAML and Python share the options.
    """

    protocol: str = Field(description="name of the protocol, as registered under asecalc_ml.protocols")
    structure: str = Field("ethanol", description="a name (ethanol, CH3CH2OH), smiles:CCO, or a file")
    calculator: str | dict[str, dict[str, Any] | None] = Field(
        "torchmdnet-ethanol",
        description="a registered model, gfn2-xtb, or module:Class; or {one of them: {argument: value}}",
    )
    directory: Path | None = Field(None, description="run directory; default runs/STRUCTURE-PROTOCOL")
    seed: int = Field(0, ge=0, description="seed of velocities and thermostat")
    threads: int = Field(1, ge=1, description="CPU threads of torch; a small molecule is fastest on one")
    analyses: dict[str, dict[str, Any] | None] | None = Field(
        None, description="analyses and their options by name; default: those that fit the run"
    )

    @property
    def run_directory(self) -> Path:
        """Where the run goes."""
        name = "".join(c if c.isalnum() else "-" for c in Path(self.structure).stem).strip("-").lower()
        return self.directory or Path("runs") / f"{name}-{self.protocol}"

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
            Start from these instead of ``structure``, and with their calculator where they have one.
        directory : str or Path, optional
            Run directory, instead of ``directory`` of the options.
        overwrite : bool
            Replace a run that is there.
        quiet : bool
            Show no progress.

        Returns
        -------
        RunReader

        Raises
        ------
        RunError
            If the directory exists or cannot be written, or the run had to stop; what it wrote stays.
        StructureError, ModelError, ConfigError
            If the structure or the calculator cannot be used.
        """
        raise NotImplementedError
