"""A package of somebody else, as `pip install` leaves it, for tests of plugins."""

from pathlib import Path

PROTOCOLS = '''
"""Protocols that the package knows nothing of."""
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field

from asecalc_ml.md_protocols.dynamics import DynamicsOptions, EnsembleOptions
from asecalc_ml.md_protocols.integrators import Langevin, Ramp, VelocityVerlet
from asecalc_ml.md_protocols.stages.produce import Produce
from asecalc_ml.md_protocols.stages.relax import Relax
from asecalc_ml.md_protocols.stages.relax_on_record import RelaxOnRecord
from asecalc_ml.md_protocols.stages.stage import Stage


class Microcanonical(EnsembleOptions):
    """Constant energy, with the plain stage and the integrator of the package."""

    protocol: Literal["microcanonical"] = Field("microcanonical", description="name of the protocol")

    def production(self, is_equilibrated):
        ramp = self.first_temperature
        draws = self.draws_velocities and not is_equilibrated
        make = partial(VelocityVerlet, ramp=ramp)
        return Produce(make, self.steps, self.timestep_fs, ramp, draws, is_equilibrated)


@dataclass(frozen=True)
class There(Ramp):
    """Up to the end temperature in the first half, and back."""

    def at(self, step):
        part = 1 - abs(2 * min(step, self.n_steps) / self.n_steps - 1)
        return self.start_K + (self.end_K - self.start_K) * part


class Anneal(EnsembleOptions):
    """Heat and cool."""

    protocol: Literal["anneal"] = Field("anneal", description="name of the protocol")
    peak_K: float = Field(900.0, description="highest temperature")

    def production(self, is_equilibrated):
        course = There(self.temperature_K, self.peak_K, self.steps)
        make = partial(Langevin, ramp=course, friction_per_ps=50.0)
        draws = self.draws_velocities and not is_equilibrated
        return Produce(make, self.steps, self.timestep_fs, course, draws, is_equilibrated)


class Quench(Microcanonical):
    """Dynamics, then the minimum below its last frame."""

    protocol: Literal["quench"] = Field("quench", description="name of the protocol")
    on_record: bool = Field(False, description="with evaluations on record")

    def stages(self):
        last = RelaxOnRecord(1e-6, 100) if self.on_record else Relax(1e-6, 100)
        return [*super().stages(), last]


@dataclass(frozen=True)
class Counting(Stage):
    """Writes files of its own: a table, a whole one, and one without the writer."""

    n_steps: int = 3
    fails: bool = False
    name: ClassVar[str] = "counting"
    writes: ClassVar[tuple] = ("colvars.csv", "bias/grid.dat", "bias/hills.csv", "plain.txt")

    def run(self, engine):
        (engine.directory / "plain.txt").write_text("plain")
        engine.writer.row("bias/hills.csv", {"step": -1})
        engine.writer.write("bias/grid.dat", "1 2 3")
        engine.writer.write("undeclared.dat", "4")
        for step in range(self.n_steps):
            engine.writer.row("colvars.csv", {"step": step, "value": 0.5})
        engine.writer.flush()
        if self.fails:
            raise KeyboardInterrupt


class Count(Microcanonical):
    """Dynamics between two stages with files of their own."""

    protocol: Literal["count"] = Field("count", description="name of the protocol")
    rows: int = Field(3, description="rows of the table")
    fails: bool = Field(False, description="is interrupted at its end")

    def stages(self):
        return [*super().stages(), Counting(self.rows, self.fails)]
'''

ANALYSES = '''
"""Analyses that break, each where its option says."""
from typing import ClassVar, Literal

from pydantic import Field

from asecalc_ml.analysis.base import Analysis, Panel, Result, Table, Verdict


class Broken(Exception):
    """An error that nobody has foreseen."""


def breaks(where, here):
    if where == here:
        raise Broken(f"in {here}")


class FragileResult(Result):
    analysis: str = "fragile"
    where: str
    value: float = 1.0

    def verdicts(self):
        breaks(self.where, "verdicts")
        if self.where == "no verdict":
            return ["passed"]
        return [Verdict(check="fragile held", status="passed", text="it did")]

    def panels(self):
        breaks(self.where, "panels")
        return [Panel(key="one", title="Fragile figure", caption="nothing")]

    def tables(self):
        breaks(self.where, "tables")
        return [Table(key="one", title="Fragile table", columns=["a"], rows=[[1.0]])]

    def _draw(self, ax, panel):
        breaks(self.where, "plot")
        ax.plot([1, 2])


class OtherResult(Result):
    analysis: Literal["fragile"] = "fragile"
    number: int


class Measurement:
    def __init__(self, where):
        self.where = where

    def frames(self, frames):
        breaks(self.where, "frames")
        if self.where == "memory":
            raise MemoryError
        if self.where == "exit":
            raise SystemExit(3)
        if self.where == "writes":
            frames.positions[...] = 0.0

    def conclude(self):
        breaks(self.where, "conclude")
        if self.where == "nothing":
            return None
        if self.where == "other class":
            return OtherResult(number=1)
        name = "brittle" if self.where == "name" else "fragile"
        return FragileResult(analysis=name, where=self.where)


class Fragile(Analysis):
    """Breaks."""

    result: ClassVar = FragileResult
    where: str = Field("nowhere", description="place of the error")

    def prepare(self, run):
        breaks(self.where, "prepare")
        if self.where == "moves":
            run.atoms.positions[...] *= 2.0
        return Measurement(self.where)
'''

ENTRY_POINTS = """
[asecalc_ml.protocols]
microcanonical = their_protocols:Microcanonical
anneal = their_protocols:Anneal
quench = their_protocols:Quench
count = their_protocols:Count

[asecalc_ml.analyses]
fragile = their_analyses:Fragile
"""


def install(folder: Path) -> Path:
    """Write the package into a folder, which then has to be on the search path."""
    (folder / "their_protocols.py").write_text(PROTOCOLS)
    (folder / "their_analyses.py").write_text(ANALYSES)
    info = folder / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder
