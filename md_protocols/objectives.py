"""Objectives of a hyperparameter search that short dynamics with the trained model give."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from asecalc_ml.config.quantities import Duration_ps, Temperature_K, Timestep_fs
from asecalc_ml.errors import AsecalcError, RunError, RunPausedError
from asecalc_ml.objectives import ObjectiveOptions, TrainedModel

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.runs import RunReader


class DynamicsObjective(ObjectiveOptions):
    """Base of objectives that dynamics at constant energy give."""

    needs_model: ClassVar[bool] = True

    objective: str = Field(description="name of the objective")

    structure: str | None = Field(
        None, description="structure, as for a protocol; empty for the first test frame of the training"
    )
    temperature_K: Temperature_K = Field(300.0, description="temperature of the equilibration")
    timestep_fs: Timestep_fs = Field(0.5, description="time step")
    equilibration_ps: Duration_ps = Field(0.5, description="length of the Langevin equilibration")
    duration_ps: Duration_ps = Field(5.0, gt=0, description="length of the production")

    def _run(self, trained: TrainedModel) -> RunReader:
        """Run protocol nve from its start, until its end or until it stops.

        Raises
        ------
        AsecalcError
            If the run cannot begin, or is asked to pause.
        """
        from asecalc_ml.md_protocols.nve import NVE
        from asecalc_ml.runs import RunReader

        directory = trained.directory / self.objective
        if directory.exists():  # a measurement that was interrupted
            shutil.rmtree(directory)
        protocol = NVE(
            calculator=str(trained.model),
            temperature_K=self.temperature_K,
            timestep_fs=self.timestep_fs,
            equilibration_ps=self.equilibration_ps,
            steps=max(2, round(1000 * self.duration_ps / self.timestep_fs)),
            thermo_every=1,
            seed=trained.seed,
            threads=trained.threads,
            stop={"bond_change": True},
            analyses={},
        )
        try:
            return protocol.run(atoms=self._atoms(trained), directory=directory, quiet=True)
        except RunPausedError:
            raise
        except AsecalcError:
            if not (directory / "events.jsonl").is_file() or RunReader(directory).ended_early is None:
                raise
            return RunReader(directory)

    def _atoms(self, trained: TrainedModel) -> Atoms:
        from asecalc_ml.store.golden import golden_atoms
        from asecalc_ml.store.model_file import read_card
        from asecalc_ml.structure.loading import load_structure

        if self.structure is not None:
            return load_structure(self.structure)
        assert trained.model is not None  # needs_model
        return golden_atoms(read_card(trained.model).golden)


class StabilityObjective(DynamicsObjective):
    """Time until dynamics at constant energy break a bond, form one, or blow up; at most ``duration_ps``."""

    direction: ClassVar = "maximize"

    objective: Literal["stability"] = Field("stability", description="name of the objective")

    @property
    def label(self) -> str:
        return "stability_ps"

    def measure(self, trained: TrainedModel) -> float:
        """Time of the production that passed before the run stopped, ps."""
        run = self._run(trained)
        times = run.read_thermo()["time_fs"]
        return self.duration_ps if run.finished else float(times[-1]) / 1000 if len(times) else 0.0


class DriftObjective(DynamicsObjective):
    """Size of the energy drift in dynamics at constant energy."""

    objective: Literal["drift"] = Field("drift", description="name of the objective")

    @property
    def label(self) -> str:
        return "drift_meV_atom_ps"

    def measure(self, trained: TrainedModel) -> float:
        """Absolute slope of the least-squares line through the total energy, meV/atom/ps.

        Raises
        ------
        RunError
            If the run stopped before its end: it has no drift.
        """
        from asecalc_ml.runs.production import TOTAL
        from asecalc_ml.statistics.time_series import linear_drift

        run = self._run(trained)
        if not run.finished:
            raise RunError(f"the dynamics stopped before their end, and have no drift: {run.ended_early}")
        thermo = run.read_thermo()
        energies_meV = 1000 * np.asarray(thermo[TOTAL]) / len(run.atoms)
        return abs(linear_drift(thermo["time_fs"] / 1000, energies_meV).slope)
