"""Labelled frames made on the spot: Langevin dynamics with GFN2-xTB, written as extended XYZ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from asecalc_ml.config.options import Options
from asecalc_ml.config.quantities import (
    Duration_ps,
    Friction_per_ps,
    Temperature_K,
    Timestep_fs,
    check_has_steps,
)
from asecalc_ml.errors import DatasetError
from asecalc_ml.files.writing import check_output
from asecalc_ml.potentials.datasets.extxyz import write_extxyz

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ase import Atoms

Temperature = Annotated[Temperature_K, Field(gt=0)]


class GenerateOptions(Options):
    """Sample a molecule by Langevin dynamics and label the frames with energy and forces.

    Every temperature is an independent run from the given structure, with random numbers of its own. The
    centre of mass is held; the first velocities have no rotation, which the thermostat then warms like
    every other motion, so the kinetic temperature counts 3N - 3 degrees of freedom.
    """

    structure: str = Field(
        description="what to sample: a shipped molecule, a name of ASE's g2 set, smiles:CCO, or a file",
        examples=["ethanol"],
    )
    charge: int | None = Field(None, description="total charge in e; empty: as the structure says")
    spin: int | None = Field(None, ge=0, description="unpaired electrons; empty: as the structure says")
    method: Literal["gfn2-xtb"] = Field("gfn2-xtb", description="what labels frames and drives the dynamics")
    temperatures_K: list[Temperature] = Field(
        [300.0, 500.0], min_length=1, description="sampling temperatures, which share the frames evenly"
    )
    n_frames: int = Field(1000, ge=1, description="frames in all")
    timestep_fs: Timestep_fs = Field(0.5, le=2, description="time step of the dynamics")
    interval_fs: float = Field(100.0, gt=0, le=1e6, description="time between frames that are kept")
    equilibration_ps: Duration_ps = Field(1.0, description="time before the first frame at each temperature")
    friction_per_ps: Friction_per_ps = Field(10.0, description="Langevin friction")
    seed: int = Field(0, ge=0, description="of velocities and thermostat: same seed, same frames")
    output: Path = Field(description="file to write, extended XYZ", examples=["runs/data/ethanol.xyz"])

    @model_validator(mode="after")
    def _whole_steps(self) -> GenerateOptions:
        check_has_steps("equilibration_ps", self.equilibration_ps, self.timestep_fs)
        steps = self.interval_fs / self.timestep_fs
        if steps < 1 or abs(steps - round(steps)) > 1e-6:
            raise ValueError(
                f"interval_fs is {self.interval_fs:g}, but should be a whole multiple of timestep_fs "
                f"({self.timestep_fs:g})"
            )
        return self

    @property
    def steps_between_frames(self) -> int:
        """Time steps from one kept frame to the next."""
        return round(self.interval_fs / self.timestep_fs)

    @property
    def equilibration_steps(self) -> int:
        """Time steps before the first frame."""
        return round(1000 * self.equilibration_ps / self.timestep_fs)

    def frames_at(self, index: int) -> int:
        """Frames at the temperature of that index: equal shares, the first ones take the remainder."""
        share, remainder = divmod(self.n_frames, len(self.temperatures_K))
        return share + (index < remainder)

    def run(self, overwrite: bool = False, quiet: bool = False) -> Path:
        """Sample, label and write; the file appears whole or not at all.

        Parameters
        ----------
        overwrite : bool
            Replace ``output`` where it exists.
        quiet : bool
            Show no progress.

        Returns
        -------
        Path
            The file: energy in eV, forces in eV/Å, and in each frame's ``info`` charge, spin,
            ``temperature_K``, ``time_fs``, method, program, structure and seed.

        Raises
        ------
        DatasetError
            If tblite is missing, the output exists or cannot be written, or the calculation breaks down.
        StructureError
            If the structure is not found, or charge and spin do not fit it.
        """
        self.check(overwrite)
        frames = list(self.frames(quiet))
        write_extxyz(self.output, frames)
        return self.output

    def check(self, overwrite: bool = False) -> Atoms:
        """Do what :meth:`run` does before its first step; nothing is written.

        Returns
        -------
        Atoms
            The structure with charge, spin, and a calculator that holds its energy and forces.

        Raises
        ------
        DatasetError, StructureError
            As :meth:`run`.
        """
        from asecalc_ml.potentials.datasets.generation.sampling import evaluated

        check_output(self.output, overwrite=overwrite, error=DatasetError)
        return evaluated(self)

    def frames(self, quiet: bool = True) -> Iterator[Atoms]:
        """Labelled frames one by one, all of the first temperature first."""
        from asecalc_ml.potentials.datasets.generation.sampling import sample
        from asecalc_ml.terminal.progress import progress

        steps = self.n_frames * self.steps_between_frames
        steps += len(self.temperatures_K) * self.equilibration_steps
        with progress(f"GFN2-xTB, {self.structure}", steps, quiet) as advance:
            yield from sample(self, advance)
