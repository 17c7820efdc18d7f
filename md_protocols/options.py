"""What the options of every protocol have in common."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from asecalc_ml.config.options import NEEDED_IN_FILES, Options
from asecalc_ml.contracts import plugin_code, returned
from asecalc_ml.errors import PluginError, refuse_both
from asecalc_ml.md_protocols.stages.stage import Stage
from asecalc_ml.tracking.spec import TrackingSpec, with_current_name

if TYPE_CHECKING:
    from typing import Self

    from ase import Atoms

    from asecalc_ml.runs import Production, RunPlan, RunReader


class ProtocolOptions(Options):
    """Base of all protocols: what runs, with which calculator, and where to.

    A protocol adds its own options and says in :meth:`stages` what is done with them.

    Attributes
    ----------
    default_analyses : tuple of str
        Registered names of the analyses of a run that names none.
    remedy : str
        What may help where the calculator fails.
    """

    default_analyses: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "A structure without strain, or a calculator made for it, may help."

    protocol: str = Field(description="name of the protocol")
    structure: Annotated[str | None, NEEDED_IN_FILES] = Field(
        None,
        description="a name (ethanol), 'smiles:CCO', or a file (frames.xyz, frames.xyz@-1)",
        examples=["ethanol"],
    )
    calculator: Annotated[str | dict[str, dict[str, Any] | None] | None, NEEDED_IN_FILES] = Field(
        None,
        description="a registered model, committee, gfn2-xtb, or 'module:Class' of any ASE calculator; with "
        "arguments as in {NAME: {dtype: float64, corrections: [zbl]}}",
        examples=["torchmdnet-ethanol"],
    )
    directory: str | None = Field(
        None,
        description="run directory; by default runs/NAME for NAME.yaml, runs/PROTOCOL-STRUCTURE in Python",
    )
    seed: int = Field(0, ge=0, description="seed of every random number")
    threads: int = Field(1, ge=1, description="CPU threads; small molecules are fastest with one")
    analyses: dict[str, dict[str, Any] | None] | None = Field(
        None, description="analyses by name, each with its options; by default those that always make sense"
    )

    tracking: TrackingSpec | None = Field(
        None,
        description="trackers to log thermo.csv, scans and final numbers to as well, each with its options, "
        "as in {wandb: {mode: offline}} or {tensorboard: {}}",
    )
    _former_names = model_validator(mode="before")(with_current_name)

    def run(
        self,
        atoms: Atoms | None = None,
        directory: str | Path | None = None,
        overwrite: bool = False,
        quiet: bool = False,
        resume_or_start: bool = False,
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
        resume_or_start : bool
            Continue the run that is in the directory, or start it if there is none. For scripts that a
            queueing system begins again.

        Returns
        -------
        RunReader

        Raises
        ------
        AsecalcError
            As :meth:`check`, before anything is written.
        RunError
            If the run cannot go on; the last good state is kept. With ``resume_or_start`` also if the
            directory holds a run of other options or another structure.
        """
        refuse_both(resume_or_start=resume_or_start, overwrite=overwrite)
        if resume_or_start:
            from asecalc_ml.md_protocols.engine.resume_or_start import resume_or_start as resume

            return resume(self, atoms, directory, quiet)
        from asecalc_ml.md_protocols.engine.launch import start_run

        return start_run(self, atoms, directory, overwrite, quiet)

    def check(
        self, atoms: Atoms | None = None, directory: str | Path | None = None, overwrite: bool = False
    ) -> Atoms:
        """Do what :meth:`run` does before its first step; nothing is written or compiled.

        Parameters
        ----------
        atoms, directory, overwrite
            As of :meth:`run`.

        Returns
        -------
        Atoms
            The structure with its calculator, which holds energy and forces.

        Raises
        ------
        ConfigError
            If structure or calculator are missing, or options do not fit them.
        StructureError, ModelError
            If the structure or the model are not found, or the calculator cannot evaluate the structure.
        AnalysisError
            If an analysis that is asked for could measure nothing in this run.
        RunError
            If the directory cannot be used.
        """
        from asecalc_ml.md_protocols.engine.launch import check_run

        return check_run(self, atoms, directory, overwrite)

    def plan(self) -> RunPlan:
        """Return the plan of the run: files, frames and rows at its planned end, and what it states.

        What the production conserves, and which temperature and pressure it is asked for, follow from the
        stages, see :meth:`asecalc_ml.md_protocols.stages.stage.Stage.segment`.
        """
        from asecalc_ml.runs import RunPlan

        stages = self.checked_stages()
        written = [stage.writes for stage in stages]
        files = None if None in written else frozenset(name for names in written for name in names)
        return RunPlan(
            self.protocol,
            files,
            interval_fs=self.frame_interval_fs,
            n_steps=sum(stage.produced_steps for stage in stages),
            production=_production(stages),
            fmax_eV_A=next((stage.fmax_eV_A for stage in stages if hasattr(stage, "fmax_eV_A")), None),
        )

    @property
    def further_protocols(self) -> tuple[str, ...]:
        """Names of protocols that its own options name, whose code counts as code of the run."""
        return ()

    @property
    def wall_time_limit_h(self) -> float | None:
        """Hours after which the run pauses; None for no limit."""
        return None

    @property
    def frame_format(self) -> str:
        """Format of the trajectory."""
        return "traj"

    def unused(self) -> dict[str, str]:
        """Options without effect next to the others, each with the setting that it belongs to."""
        return {}

    def doubts(self) -> list[str]:
        """Warnings about options that were set to another value than their default and have no effect."""
        return [
            f"{name}: {getattr(self, name)} has no effect without {owner}. Remove the option, or set that"
            for name, owner in self.unused().items()
            if name in self.model_fields_set
            and getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True)
        ]

    def check_start(self, atoms: Atoms) -> None:
        """Refuse a structure that the protocol cannot start from, with a StructureError."""

    def with_thermostat(self, name: str) -> Self:
        """Return these options with the named thermostat in place of every ``auto``."""
        return self

    def stages(self) -> list:
        """What is done, in order: objects of :class:`asecalc_ml.md_protocols.stages.stage.Stage`."""
        raise NotImplementedError

    def checked_stages(self) -> list:
        """Return :meth:`stages`, each with what the engine asks of it.

        Raises
        ------
        PluginError
            If they are no list, or one of them is no stage, or lacks what the engine asks of it.
        """
        what = f"{type(self).__name__}.stages()"
        with plugin_code(what):
            stages = self.stages()
        if not isinstance(stages, list | tuple):
            raise returned(what, stages, "a list of stages")
        for stage in stages:
            if not isinstance(stage, Stage):
                raise returned(what, stage, f"a list of stages ({Stage.__module__}.{Stage.__name__})")
            if problem := stage.mistake():
                name = type(stage).__name__
                raise PluginError(f"{what} returned a {name} {problem}", name=name)
        return list(stages)

    @property
    def why_not_longer(self) -> str:
        """Why a run with these options cannot be given more steps afterwards; empty if it can."""
        return f"a run of {self.protocol} is whole when it is finished"

    @property
    def frame_interval_fs(self) -> float | None:
        """Time from frame to frame of the trajectory; None where frames are no moments in time."""
        return None

    def default_directory(self) -> Path:
        """Where a run of Python goes that was not told: runs/nve-ethanol."""
        text = self.structure or "atoms"
        text = Path(text).stem if "/" in text else text
        return Path("runs") / f"{self.protocol}-{re.sub(r'[^A-Za-z0-9._+-]+', '-', text)}"


def _production(stages: list) -> Production:
    """Put together what the stages state about the production."""
    from asecalc_ml.runs import Production, Segment

    n_steps, segments = 0, []
    for stage in stages:
        what = f"{type(stage).__name__}.segment()"
        with plugin_code(what):
            segment = stage.segment(n_steps)
        if not isinstance(segment, Segment | None):
            raise returned(what, segment, "a Segment (asecalc_ml.runs), or None")
        segments += [] if segment is None else [segment]
        n_steps += stage.produced_steps
    return Production(segments=tuple(segments))
