"""What every analysis obeys, as a class to inherit."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from asecalc_ml.analysis.base import Analysis, Result
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.errors import AnalysisError
from asecalc_ml.outcome import OUTCOMES
from asecalc_ml.runs import THERMO, THERMO_COLUMNS, TRAJECTORY, RunPlan, RunReader
from asecalc_ml.testing.options import OptionChecks
from asecalc_ml.testing.structures import random_rotation

CLOSE = {"rel": 1e-6, "abs": 1e-8}  # sums are taken in another order


class AnalysisChecks(OptionChecks):
    """Inherit, give ``options`` and a run, and pytest runs the checks.

    Attributes
    ----------
    options : Analysis
    turns : bool
        True if rotating and moving the whole run changes nothing.
    permutes : bool
        True if the order of atoms changes nothing; False where results name atoms by their numbers.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from asecalc_ml.analysis.distributions.bond_lengths import BondLengths
    >>> class TestBondLengths(AnalysisChecks):
    ...     options = BondLengths()
    ...
    ...     def make_run(self, directory):
    ...         frames = [molecule("H2O") for _ in range(5)]
    ...         for atoms in frames:
    ...             atoms.rattle(0.05)
    ...         return MemoryRun.from_frames(frames, frame_interval_fs=1.0)
    """

    options: ClassVar[Analysis]
    group: ClassVar[str] = "analyses"
    turns: ClassVar[bool] = True
    permutes: ClassVar[bool] = True

    def make_run(self, directory: Path) -> MemoryRun | RunReader:
        """A run in which there is something to measure; made in the directory if it needs files."""
        raise NotImplementedError("give the run that is measured")

    def refused_runs(self) -> Sequence[MemoryRun]:
        """Runs in which there is nothing to measure."""
        return ()

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, tmp_path_factory: pytest.TempPathFactory) -> MemoryRun | RunReader:
        """The run that is measured."""
        return cls().make_run(tmp_path_factory.mktemp("measured"))

    @pytest.fixture(scope="class")
    @classmethod
    def result(cls, run: MemoryRun | RunReader) -> Result:
        """Result of the analysis for this run."""
        return cls.options.run(run)

    @property
    def takes_frames(self) -> bool:
        """True if it takes a trajectory in chunks."""
        return type(self.options).run is Analysis.run

    # ------------------------------------------------------------------------------------- measuring

    def test_the_result_has_the_name_of_the_analysis(self, result: Result) -> None:
        assert type(result) is type(self.options).result
        assert result.analysis == self.name

    def test_measured_twice_is_the_same(self, run: MemoryRun | RunReader, result: Result) -> None:
        assert self.options.run(run) == result

    def test_the_size_of_chunks_does_not_count(self, run: MemoryRun | RunReader, result: Result) -> None:
        if not self.takes_frames:
            pytest.skip("this analysis takes no frames in chunks")
        for size in (1, 3):
            measurement = self.options.begin(run)
            for frames in run.frame_chunks(size):
                measurement.frames(frames)
            assert_close(measurement.conclude(), result)

    def test_turning_and_moving_the_run_changes_nothing(
        self, run: MemoryRun | RunReader, result: Result
    ) -> None:
        if not (self.turns and self.takes_frames):
            pytest.skip("the result depends on directions, or on no frames")
        assert_close(self.options.run(turned(in_memory(run), random_rotation(3))), result)

    def test_the_order_of_atoms_changes_nothing(self, run: MemoryRun | RunReader, result: Result) -> None:
        if not (self.permutes and self.takes_frames):
            pytest.skip("the result names atoms by their numbers, or depends on no frames")
        order = np.random.default_rng(0).permutation(len(run.atoms))
        assert_close(self.options.run(permuted(in_memory(run), order)), result)

    # ------------------------------------------------------------------------------ before and after a run

    def test_what_can_be_measured_is_not_refused_before_the_run(self, run: MemoryRun | RunReader) -> None:
        self.options.check_start(run.atoms)
        self.options.check_plan(plan_of(run))

    def test_runs_with_nothing_to_measure_are_refused_before_and_after(self) -> None:
        for run in self.refused_runs():
            with pytest.raises(AnalysisError):
                self.options.run(run)
            with pytest.raises(AnalysisError):
                self._check(run)

    def _check(self, run: MemoryRun) -> None:
        self.options.check_start(run.atoms)
        self.options.check_plan(plan_of(run))

    # --------------------------------------------------------------------------------- what is written

    def test_the_result_is_read_back_as_it_was(self, result: Result, tmp_path: Path) -> None:
        path, *tables = result.write(tmp_path)
        assert path.name == f"{self.name}.json"
        assert type(result).model_validate_json(path.read_bytes()).model_dump() == result.model_dump()
        assert len(tables) == len(result.tables()) + len(result.data())
        for table in tables:
            header, *rows = csv.reader(table.read_text(encoding="utf-8").splitlines())
            assert all(len(row) == len(header) for row in rows)

    def test_a_result_that_was_changed_is_refused(self, result: Result, tmp_path: Path) -> None:
        path = result.write(tmp_path)[0]
        data = json.loads(path.read_text(encoding="utf-8"))
        data["sha256"] = "0" * 64
        with pytest.raises(ValueError, match="checksum"):
            type(result).model_validate_json(json.dumps(data))

    def test_tables_have_a_name_and_as_many_cells_as_columns(self, result: Result) -> None:
        tables = [*result.tables(), *result.data()]
        assert len({table.key for table in tables}) == len(tables)
        for table in tables:
            assert table.title
            assert all(len(row) == len(table.columns) for row in table.rows)

    def test_every_figure_is_drawn_with_title_and_label(self, result: Result) -> None:
        from matplotlib.figure import Figure

        for panel in result.panels():
            ax = result.plot(Figure().subplots(), panel.key)
            assert ax.get_title() == panel.title
            assert ax.get_xlabel() or ax.get_ylabel()  # bars have names on one axis
            assert panel.caption
        with pytest.raises(AnalysisError, match="has no figure"):
            result.plot(panel="no such figure")

    def test_verdicts_say_what_was_checked_and_the_numbers(self, result: Result) -> None:
        for verdict in result.verdicts():
            assert verdict.status in OUTCOMES
            assert verdict.check
            assert any(character.isdigit() for character in verdict.text) or verdict.status == "undecided"

    def test_scalars_are_numbers_with_names(self, result: Result) -> None:
        for name, value in result.scalars().items():
            assert name
            assert value is None or np.isfinite(value)


def plan_of(run: MemoryRun | RunReader) -> RunPlan:
    """The plan of a run that holds what this one does."""
    if isinstance(run, RunReader):
        from asecalc_ml import plugins
        from asecalc_ml.config.options import parse_options

        options = run.read_options()
        return parse_options(options, plugins.get("protocols", options["protocol"])).plan()
    thermo = dict(run.read_thermo())
    return RunPlan(
        protocol="nve",
        files=frozenset([TRAJECTORY, *([THERMO] if thermo else [])]),
        n_frames=run.n_frames,
        interval_fs=run.frame_interval_fs,
        n_rows=len(next(iter(thermo.values()), ())),
        columns=tuple(set(thermo) - set(THERMO_COLUMNS)),
        production=run.production,
    )


def in_memory(run: MemoryRun | RunReader) -> MemoryRun:
    """The same run in arrays that can be changed."""
    if isinstance(run, MemoryRun):
        return run
    quantities = ("positions", "momenta", "cells")
    arrays: dict[str, Any] = {name: np.concatenate(list(run.chunks(quantity=name))) for name in quantities}
    return MemoryRun(
        atoms=run.atoms,
        frame_interval_fs=run.frame_interval_fs,
        thermo=run.read_thermo(),
        options=run.read_options(),
        model_card=run.read_model_card(),
        events=run.read_events(),
        production=run.production,
        **arrays,
    )


def turned(run: MemoryRun, matrix: np.ndarray) -> MemoryRun:
    """A run whose atoms and cells are rotated, and atoms moved."""
    atoms, shift = run.atoms.copy(), np.array([0.3, -1.7, 2.9])
    atoms.set_cell(atoms.cell.array @ matrix.T)
    atoms.positions = atoms.positions @ matrix.T + shift
    vectors = {name: getattr(run, name) for name in ("cells", "momenta")}
    changed = {name: array @ matrix.T for name, array in vectors.items() if array is not None}
    return replace(run, atoms=atoms, positions=run.positions @ matrix.T + shift, **changed)


def permuted(run: MemoryRun, order: np.ndarray) -> MemoryRun:
    """A run whose atoms come in another order."""
    momenta = None if run.momenta is None else run.momenta[:, order]
    return replace(run, atoms=run.atoms[order], positions=run.positions[:, order], momenta=momenta)


def assert_close(result: Result, expected: Result) -> None:
    """Results with the same texts, and numbers that differ by rounding alone."""
    _assert_close(result.model_dump(), expected.model_dump(), type(result).__name__)


def _assert_close(value: Any, expected: Any, place: str) -> None:
    if isinstance(expected, dict):
        assert value.keys() == expected.keys(), place
        for key in expected:
            _assert_close(value[key], expected[key], f"{place}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(value) == len(expected), place
        for number, pair in enumerate(zip(value, expected, strict=True)):
            _assert_close(*pair, f"{place}[{number}]")
    elif isinstance(expected, float):
        assert value == pytest.approx(expected, **CLOSE, nan_ok=True), place
    else:
        assert value == expected, place
