"""Points that a calculator computes together: calls, resumed runs, points that fail."""

from pathlib import Path

import numpy as np
import pytest
import toy_calculators
from ase.build import molecule

from asecalc_ml.calculators.batches import many
from asecalc_ml.calculators.ml_calculator import MLCalculator
from asecalc_ml.md_protocols.engine.resume import resume_run
from asecalc_ml.md_protocols.scan.options import Scan
from asecalc_ml.runs import EVALUATIONS, SCAN_TABLE, RunReader, RunWriter
from asecalc_ml.structure.loading import load_structure

BATCHED = "toy_calculators:BatchedSprings"


def scan(directory: Path, calculator=BATCHED, atoms=None, **options) -> RunReader:
    given = {"calculator": calculator, "coordinate": [0, 1], "start": 0.9, "stop": 1.1, "points": 10}
    given |= {"relax": False}
    return Scan(**given | options).run(atoms or molecule("H2O"), directory, quiet=True)


def curve(run: RunReader, calculator: int = 0, member: int = -1) -> np.ndarray:
    table = run.read_scan_table()
    rows = (table["calculator"] == calculator) & (table["member"] == member)
    return np.array([table["energy_eV"][rows], table["force"][rows]])


@pytest.fixture
def sizes(monkeypatch):
    """Numbers of structures of each batch, at most four structures of water each."""
    monkeypatch.setattr(many, "ATOMS_AT_ONCE", 12)
    toy_calculators.BatchedSprings.batches.clear()
    return toy_calculators.BatchedSprings.batches


def test_points_are_computed_in_batches(sizes, tmp_path):
    run = scan(tmp_path / "run", more_calculators=["toy_calculators:Springs"])
    assert sizes == [4, 4, 2]
    assert curve(run, 0) == pytest.approx(curve(run, 1), abs=1e-6)
    assert run.n_frames == 20


@pytest.mark.parametrize("kind", ["rigid", "relaxed"])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_killed_in_a_batch_it_gives_the_same_table(kind, batch, sizes, tmp_path, monkeypatch):
    """Relaxed geometries are those of another calculator, so that this one computes them together, too."""
    options = {"calculator": "toy_calculators:Springs", "reference": BATCHED, "kind": kind}
    options |= {"geometries": "toy_calculators:Springs", "relax_fmax_eV_A": 1e-3}
    straight = scan(tmp_path / "straight", **options)
    assert sizes == [4, 4, 2]
    sizes.clear()
    monkeypatch.setenv("TOY_BREAKS_AT", str(batch))
    with pytest.raises(KeyboardInterrupt):
        scan(tmp_path / "run", **options)
    monkeypatch.setenv("TOY_BREAKS_AT", "-1")
    sizes.clear()
    run = resume_run(tmp_path / "run", quiet=True)
    assert sizes == [4, 4, 2][batch - 1 :]  # what was done is not computed again
    for name in (SCAN_TABLE, EVALUATIONS):
        assert (run.directory / name).read_bytes() == (straight.directory / name).read_bytes()


@pytest.mark.parametrize("n_written", [1, 3, 5])
def test_killed_while_a_batch_is_written_it_gives_the_same_table(n_written, sizes, tmp_path, monkeypatch):
    """The batch is computed again as a whole, since its last digits depend on what it holds."""
    straight = scan(tmp_path / "straight")
    written = RunWriter.evaluation

    def killed(self, result):
        if len(RunReader(self.directory).read_evaluations()) == n_written:
            raise KeyboardInterrupt
        written(self, result)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "evaluation", killed)
        with pytest.raises(KeyboardInterrupt):
            scan(tmp_path / "run")
    run = resume_run(tmp_path / "run", quiet=True)
    for name in (SCAN_TABLE, EVALUATIONS):
        assert (run.directory / name).read_bytes() == (straight.directory / name).read_bytes()
    ours, theirs = (np.concatenate(list(one.chunks())) for one in (run, straight))
    assert (ours == theirs).all()


def test_a_point_that_fails_leaves_the_others_of_its_batch(sizes, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_LONGEST_A", "1.65")
    run = scan(tmp_path / "run", start=0.95, stop=1.35, points=9)
    energies = curve(run)[0]
    lengths = [frame.get_all_distances().max() for frame in run.frames()]
    assert 0 < np.isnan(energies).sum() < 9
    assert len(lengths) == np.isfinite(energies).sum()
    assert max(lengths) <= 1.65
    warnings = [event["message"] for event in run.read_events() if event["kind"] == "warning"]
    assert len(warnings) == np.isnan(energies).sum()
    assert all("too long; the scan goes on" in warning for warning in warnings)


def test_points_of_a_model_and_of_a_committee(tiny_model, own_home, tmp_path, monkeypatch):
    """Together as alone, the members of a committee included; no single calculation but the first state's."""
    from asecalc_ml.potentials.torchmdnet import EquivariantTransformer
    from asecalc_ml.testing import register_untrained

    options = EquivariantTransformer(hidden_channels=8, n_layers=1, n_rbf=8, n_heads=2, max_atomic_number=20)
    register_untrained("other", options, load_structure("ethanol"))
    exact = {"dtype": "float64", "compile": "never"}
    committee = {"committee": {"members": [tiny_model, "other"], **exact}}
    calculators = {"calculator": {tiny_model: exact}, "more_calculators": [committee], "points": 6}
    calculators |= {"coordinate": "C-C-O-H", "start": 0, "stop": 200, "atoms": load_structure("ethanol")}
    calls = []
    calculate = MLCalculator.calculate

    def counted(self, *arguments, **keywords):
        calls.append(1)
        calculate(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(MLCalculator, "calculate", counted)
        run = scan(tmp_path / "together", **calculators)
    assert len(calls) == 1 + 2  # the first state, and what `check` asks of the committee's members
    monkeypatch.setattr(many, "computes_together", lambda calculator: False)
    alone = scan(tmp_path / "alone", **calculators)
    for calculator, member in ((0, -1), (1, -1), (1, 0), (1, 1)):
        expected = curve(alone, calculator, member)
        assert np.isfinite(expected).all()
        assert curve(run, calculator, member) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("is_periodic", [False, True])
def test_a_model_gives_the_same_bits_when_resumed(is_periodic, tiny_model, tmp_path, monkeypatch):
    """In float32, whose last digits depend on the batch: a new process computes the batch that was lost."""
    monkeypatch.setattr(many, "ATOMS_AT_ONCE", 40)
    atoms = load_structure("ethanol")
    if is_periodic:
        atoms.set_cell([7.0, 7.5, 8.0])
        atoms.pbc = True
    options = {"calculator": tiny_model, "atoms": atoms, "coordinate": [1, 2], "start": 1.3, "stop": 1.6}
    straight = scan(tmp_path / "straight", **options)
    calls, calculate_many = [], MLCalculator.calculate_many

    def killed(self, structures):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return calculate_many(self, structures)

    with monkeypatch.context() as patch:
        patch.setattr(MLCalculator, "calculate_many", killed)
        with pytest.raises(KeyboardInterrupt):
            scan(tmp_path / "run", **options)
    run = resume_run(tmp_path / "run", quiet=True)
    for name in (SCAN_TABLE, EVALUATIONS):
        assert (run.directory / name).read_bytes() == (straight.directory / name).read_bytes()
