"""What every protocol obeys, as a class to inherit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms

from asecalc_ml import plugins
from asecalc_ml.analysis.pipeline import run_analyses
from asecalc_ml.errors import StructureError
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.integrators.thermostat_choice import for_structure
from asecalc_ml.md_protocols.options import ProtocolOptions
from asecalc_ml.runs import THERMO_COLUMNS, RunReader, layout
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing.options import OptionChecks

#: Files that tell moments and machines, or that say how often a run was begun.
OTHERWISE = {
    layout.PROVENANCE, layout.EVENTS, layout.CHECKPOINT, layout.PREVIOUS_CHECKPOINT, layout.LOCK,
    layout.PROTOCOL,
}  # fmt: skip

#: What every run has, and files of stages that may write nothing into them.
ALWAYS = {*OTHERWISE, layout.START, layout.CARD, layout.EVALUATIONS, layout.FLAGGED}


class Killed(BaseException):
    """Stands for the end of the process, which no part of a run may catch."""


class ProtocolChecks(OptionChecks):
    """Inherit, give ``options`` of a run of seconds, and pytest runs the checks.

    Attributes
    ----------
    options : ProtocolOptions
        With ``structure`` and ``calculator``; a run that takes less than a second.
    deterministic : bool
        True if no random number counts, so that another seed changes nothing.
    may_write : sequence of str
        Files of the run directory that depend on what happens in a run, and that no stage declares.
    refused : sequence of Atoms
        Structures, without calculators, that the protocol itself cannot start from.

    Examples
    --------
    >>> from asecalc_ml.md_protocols.nve import NVE
    >>> class TestNVE(ProtocolChecks):
    ...     options = NVE(structure="water", calculator="ase.calculators.emt:EMT", steps=20)
    """

    options: ClassVar[ProtocolOptions]
    group: ClassVar[str] = "protocols"
    deterministic: ClassVar[bool] = False
    may_write: ClassVar[Sequence[str]] = ()
    refused: ClassVar[Sequence[Atoms]] = ()

    def run(self, directory: Path, **changes: Any) -> RunReader:
        """A run with changed options."""
        return self.options.model_copy(update=changes).run(directory=directory, quiet=True)

    @property
    def start(self) -> Atoms:
        """The structure of the options."""
        assert self.options.structure is not None, "give options with a structure"
        return load_structure(self.options.structure)

    @property
    def chosen(self) -> ProtocolOptions:
        """The options with what the structure decides."""
        return for_structure(self.options, self.start)

    # --------------------------------------------------------------------------------- the plan of a run

    def test_stages_have_names_and_a_number_of_steps(self) -> None:
        stages = self.chosen.checked_stages()
        assert stages
        for stage in stages:
            assert isinstance(stage.name, str)
            assert stage.n_steps >= 0

    def test_a_run_writes_what_its_stages_declare(self, tmp_path: Path) -> None:
        plan, run = self.chosen.plan(), self.run(tmp_path / "run")
        assert run.finished
        if plan.files is None:
            pytest.skip("a stage does not declare its files")
        written = {path.name for path in run.directory.iterdir() if path.is_file()}
        written |= {name for name in plan.files if (run.directory / name).is_file()}  # those in folders, too
        written = {layout.TRAJECTORY if name in layout.TRAJECTORIES else name for name in written}
        assert plan.files <= written | set(self.may_write)
        assert written - ALWAYS <= plan.files | set(self.may_write)

    def test_a_run_has_the_frames_and_rows_that_were_planned(self, tmp_path: Path) -> None:
        plan, run = self.chosen.plan(), self.run(tmp_path / "run")
        if plan.n_frames is None:
            pytest.skip("the number of frames is not planned")
        thermo = run.read_thermo()
        assert (run.n_frames, len(thermo["step"])) == (plan.n_frames, plan.n_rows)
        assert set(thermo) == {*THERMO_COLUMNS, *plan.columns}
        assert run.frame_interval_fs == plan.frame_interval_fs
        assert np.isfinite([thermo[name] for name in THERMO_COLUMNS]).all()

    # ------------------------------------------------------------------------------------- the same again

    def test_the_same_seed_gives_the_same_run(self, tmp_path: Path) -> None:
        first, second = (contents(self.run(tmp_path / name).directory) for name in ("first", "second"))
        assert first == second

    def test_another_seed_gives_another_run(self, tmp_path: Path) -> None:
        if self.deterministic:
            pytest.skip("no random number counts")
        first, second = (contents(self.run(tmp_path / str(seed), seed=seed).directory) for seed in (1, 2))
        assert first != second

    def test_a_run_that_was_killed_is_resumed_to_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed at a third and at two thirds of its calls for forces."""
        calls = Calls(monkeypatch)
        straight = contents(self.run(tmp_path / "straight").directory)
        if calls.n < 3:
            pytest.skip("forces are not asked of ASE's Atoms")
        directory = tmp_path / "run"
        first, second = calls.n // 3, 2 * calls.n // 3
        assert calls.dies_at(first, lambda: self.run(directory))
        calls.dies_at(second - first, lambda: _go_on(directory, self.run))
        run = _go_on(directory, self.run)
        assert run.finished
        assert contents(directory) == straight

    # ----------------------------------------------------------------------------------------- structures

    def test_the_structure_that_is_given_stays_as_it_is(self, tmp_path: Path) -> None:
        atoms = self.start
        before = atoms.copy()
        self.options.run(atoms, directory=tmp_path / "run", quiet=True)
        assert atoms == before

    def test_structures_that_cannot_be_evaluated_are_refused(self, tmp_path: Path) -> None:
        broken = Atoms("H2", [[0, 0, 0], [np.nan, 0, 0]])
        for atoms in (Atoms(), broken):
            with pytest.raises(StructureError):
                self.options.check(atoms, directory=tmp_path / "run")

    def test_structures_that_the_protocol_cannot_start_from_are_refused(self, tmp_path: Path) -> None:
        for atoms in self.refused:
            with pytest.raises(StructureError):
                self.options.check(atoms, directory=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    # ------------------------------------------------------------------------------------------- analyses

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_default_analyses_are_registered_and_measure_something(self, tmp_path: Path) -> None:
        names = self.options.default_analyses
        assert set(names) <= set(plugins.names("analyses"))
        results = run_analyses(self.run(tmp_path / "run").directory)
        assert {result.analysis for result in results} <= set(names)
        assert bool(results) == bool(names)


class Calls:
    """Counts calls of ``Atoms.get_forces``, and ends the process, as far as a test can, at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.n = 0
        self._last: int | None = None
        plain = Atoms.get_forces

        def counted(atoms: Atoms, *arguments: Any, **options: Any) -> np.ndarray:
            self.n += 1
            if self.n == self._last:
                raise Killed
            return plain(atoms, *arguments, **options)

        monkeypatch.setattr(Atoms, "get_forces", counted)

    def dies_at(self, number: int, work: Callable[[], object]) -> bool:
        """Return True if the work came to its call of this number, and died there."""
        self.n, self._last = 0, number
        try:
            work()
        except Killed:
            return True
        finally:
            self._last = None
        return False


def _go_on(directory: Path, start: Callable[[Path], RunReader]) -> RunReader:
    """Resume a run; begin it where it had not come that far."""
    if (directory / layout.PROTOCOL).is_file():
        return resume_run(directory, quiet=True)
    return start(directory)


def contents(directory: Path) -> dict[str, bytes]:
    """All files of a run that depend on nothing but its options."""
    paths = [path for path in directory.rglob("*") if path.is_file() and path.name not in OTHERWISE]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}
