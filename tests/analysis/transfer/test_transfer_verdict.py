"""The verdict of a transfer test on constructed cases: false alarms, a shifted bond, what is undecided."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase import units
from places import HELPERS
from raising import told
from scipy.stats import wasserstein_distance as wasserstein_of_samples

from asecalc_ml.analysis.comparing.wasserstein import histogram_distance
from asecalc_ml.analysis.pipeline import read_results, run_analyses
from asecalc_ml.analysis.report.report import write_report
from asecalc_ml.analysis.transfer.distance import judged
from asecalc_ml.analysis.transfer.transfer import TransferAnalysis, TransferResult
from asecalc_ml.errors import AnalysisError, ConfigError
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.transfer.options import Transfer
from asecalc_ml.runs import PROTOCOL, PROVENANCE, START, THERMO, TRANSFER, EventKind, RunReader, RunWriter
from asecalc_ml.statistics.histogram import Histogram
from asecalc_ml.structure.loading import load_structure

WIDTH = 0.01
N_REFERENCE, N_MODEL = 8, 5
N_TESTS = 300

# ---------------------------------------------------------------------- how often chance fails a distribution

# What makes runs of one dynamics differ: mean and spread of a run's values, Å. At constant energy a vibration
# keeps its share of the energy, exponential for one of them, of gamma distribution for some together.
SCATTER = {
    "frames only": lambda rng: (0.0, 0.03),
    "means": lambda rng: (rng.normal(0, 0.004), 0.03),
    "amplitudes": lambda rng: (0.0, 0.03 * np.sqrt(rng.gamma(4, 1 / 4))),
    "both": lambda rng: (rng.normal(0, 0.002), 0.03 * np.sqrt(rng.gamma(4, 1 / 4))),
    "two conformers": lambda rng: (0.02 * (rng.random() < 0.4), 0.03),
}


def runs(rng, scatter, number: int, shift: float = 0.0) -> list[Histogram]:
    """Histograms of runs of 1000 independent values."""
    found = []
    for _ in range(number):
        mean, std = scatter(rng)
        found.append(Histogram.from_samples(rng.normal(1.4 + mean + shift, std, 1000), WIDTH))
    return found


def fails(rng, scatter, shift: float = 0.0) -> bool:
    distance, bound = judged(runs(rng, scatter, N_REFERENCE), runs(rng, scatter, N_MODEL, shift))
    return distance > bound


@pytest.mark.parametrize("name", SCATTER)
def test_the_reference_against_itself_passes_nineteen_times_of_twenty(name):
    """Between 1 and 7 % of 300 tests fail, where 5 % would have a standard error of 1.3 %."""
    rng = np.random.default_rng(7)
    failed = np.mean([fails(rng, SCATTER[name]) for _ in range(N_TESTS)])
    print(f"{name}: {failed:.1%} of {N_TESTS} tests of the reference against itself fail")
    assert 0.005 < failed < 0.075


@pytest.mark.parametrize("name", SCATTER)
def test_a_bond_shifted_by_two_hundredths_fails_every_time(name):
    """But where runs stay in one of two conformers whose bonds differ as much: there runs tell little."""
    rng = np.random.default_rng(8)
    shifted = np.mean([fails(rng, SCATTER[name], 0.02) for _ in range(50)])
    print(f"{name}: {shifted:.0%} of 50 tests with a bond shifted by 0.02 Å fail")
    assert shifted > (0.4 if name == "two conformers" else 0.99)


def test_the_bound_does_not_depend_on_how_many_runs_there_are():
    """A fair null for other numbers of runs, too: 5 % within three standard errors of 1.3 %."""
    rng = np.random.default_rng(9)
    failed = [
        distance > bound
        for _ in range(N_TESTS)
        for distance, bound in [judged(runs(rng, SCATTER["both"], 20), runs(rng, SCATTER["both"], 10))]
    ]
    print(f"20 and 10 runs: {np.mean(failed):.1%} of {N_TESTS} tests fail")
    assert 0.01 < np.mean(failed) < 0.09


def ethanes(n_replicas: int, n_steps: int, rng) -> np.ndarray:
    """C-C bond of springs between all atoms of ethane, at constant energy, shape (n_replicas, n_frames), Å.

    Velocity Verlet of all replicas at once, after Langevin dynamics, each at the mean energy of all.
    """
    from toy_calculators import Springs

    springs, start = Springs("C2H6", stiffness=2.0), load_structure("C2H6")
    masses, dt, kT = start.get_masses()[:, None], 1.0 * units.fs, 300 * units.kB
    x = np.repeat(start.positions[None], n_replicas, axis=0)
    v = rng.standard_normal(x.shape) * np.sqrt(kT / masses)

    def forces(x):
        vectors = x[:, springs.second] - x[:, springs.first]
        lengths = np.linalg.norm(vectors, axis=-1)
        pulls = springs.stiffness * (1 - springs.lengths / lengths)[..., None] * vectors
        found = np.zeros_like(x)
        for k, (i, j) in enumerate(zip(springs.first, springs.second, strict=True)):
            found[:, i] += pulls[:, k]
            found[:, j] -= pulls[:, k]
        return found, 0.5 * springs.stiffness * ((lengths - springs.lengths) ** 2).sum(axis=1)

    def step(f):
        nonlocal x, v
        v = v + 0.5 * dt * f / masses
        x = x + dt * v
        f, energy = forces(x)
        v = v + 0.5 * dt * f / masses
        return f, energy

    f, _ = forces(x)
    for _ in range(1000):
        f, energy = step(f)
        keep = np.exp(-dt * 0.02 / units.fs)
        v = keep * v + np.sqrt(1 - keep**2) * np.sqrt(kT / masses) * rng.standard_normal(v.shape)
    kinetic = 0.5 * (masses * v**2).sum(axis=(1, 2))
    wanted = np.maximum((kinetic + energy).mean() - energy, 0.1 * kinetic)
    v *= np.sqrt(wanted / kinetic)[:, None, None]
    bonds = []
    for number in range(n_steps):
        f, _ = step(f)
        if number % 5 == 0:
            bonds.append(np.linalg.norm(x[:, 1] - x[:, 0], axis=1))
    return np.array(bonds).T


@pytest.mark.slow
def test_runs_of_real_dynamics_against_others_of_the_same(monkeypatch):
    """40 tests of 8 and 5 runs of 10 ps each: 2 of them should fail, 7 or more would in one case of 300."""
    monkeypatch.syspath_prepend(HELPERS)
    values = ethanes(40 * 13, 10_000, np.random.default_rng(0))
    found = [Histogram.from_samples(one, WIDTH) for one in values]
    tests = [found[k : k + 13] for k in range(0, len(found), 13)]
    failed = [distance > bound for distance, bound in (judged(one[:8], one[8:]) for one in tests)]
    print(f"springs at constant energy: {sum(failed)} of {len(failed)} tests fail")
    assert sum(failed) < 7
    moved = [Histogram.from_samples(one + 0.02, WIDTH) for one in values[8:13]]
    distance, bound = judged(tests[0][:8], moved)
    assert distance > bound


# ---------------------------------------------------------------------- distances against other ways to them


def test_the_distance_is_that_of_the_samples():
    """Of pooled samples, with scipy; the bins of 0.01 Å make less than 2 % of it here."""
    rng = np.random.default_rng(3)
    reference, model = rng.normal(1.4, 0.05, (8, 5000)), rng.normal(1.42, 0.06, (5, 5000))
    histograms = [[Histogram.from_samples(one, WIDTH) for one in each] for each in (reference, model)]
    expected = wasserstein_of_samples(reference.ravel(), model.ravel())
    assert judged(*histograms)[0] == pytest.approx(expected, rel=0.02)
    assert histogram_distance(histograms[1][:1], histograms[0]) == pytest.approx(
        wasserstein_of_samples(reference.ravel(), model[0]), rel=0.02
    )


def test_the_bound_grows_with_the_scatter_of_runs_and_shrinks_with_their_number():
    def bound(scatter, n_reference, n_model):
        rng = np.random.default_rng(4)
        found = [judged(runs(rng, scatter, n_reference), runs(rng, scatter, n_model))[1] for _ in range(20)]
        return np.mean(found)

    few = bound(SCATTER["means"], 8, 5)
    assert few > 2 * bound(SCATTER["frames only"], 8, 5)
    # the deviation of two means, sqrt(1/m + 1/n), and Student's t
    assert bound(SCATTER["means"], 32, 20) == pytest.approx(few / 2 * 1.04 / 1.21, rel=0.15)


def test_the_bound_for_means_that_scatter_normally_is_that_of_student():
    """|Δ| of means of m and n runs: t(n − 1) s √(1/m + 1/n), the two-sample test with one variance."""
    from scipy.stats import t

    rng = np.random.default_rng(5)
    means = rng.normal(0, 0.05, 8)
    reference = [Histogram.from_samples(1.4 + mean + np.linspace(-0.5, 0.5, 4000), 0.001) for mean in means]
    bound = judged(reference, reference[:5])[1]
    expected = t.ppf(0.975, 7) * means.std(ddof=1) * np.sqrt(1 / 5 + 1 / 8)
    assert bound == pytest.approx(expected, rel=0.06)


def test_dihedrals_are_compared_around_the_circle():
    """179 and -179 degrees are neighbors."""
    one = [Histogram.from_samples(np.full(100, 179.5), 5.0, 360)] * 8
    other = [Histogram.from_samples(np.full(100, -179.5), 5.0, 360)] * 5
    assert judged(one, other)[0] == pytest.approx(5.0)


def test_one_run_of_the_reference_has_no_scatter():
    found = runs(np.random.default_rng(0), SCATTER["means"], 3)
    assert judged(found[:1], found[1:])[1] is None


# ---------------------------------------------------------------------- whole tests, written by hand


@dataclass(frozen=True)
class Case:
    """A transfer test with ethanol whose frames are drawn."""

    n_reference: int = 8
    n_model: int = 5
    shift: float = 0.0  # of the C-O bond of the model, Å
    broken: int = 0  # runs of the model whose C-O bond breaks
    early: int = 0  # that end early
    drift: float = 0.0  # of the model's energy, meV/atom/ps
    reference_drift: float = 0.0
    length_ps: float = 10.0
    unfinished: int = 0
    missing: int = 0
    seed: int = 0

    def write(self, directory: Path) -> RunReader:
        rng = np.random.default_rng(self.seed)
        names = {
            role: [f"ethanol/{role}-{k + 1}" for k in range(number)]
            for role, number in (("reference", self.n_reference), ("model", self.n_model))
        }
        about = {
            "model": {"name": "toy"},
            "reference": {"name": "truth"},
            "molecules": [{"name": "ethanol", "formula": "C2H6O", "is_trained": True} | names],
            "runs": [*names["reference"], *names["model"]],
        }
        options = {
            "structure": "ethanol",
            "transfer_to": ["1-propanol"],
            "calculator": "toy",
            "distributions": ["C-C", "C-O", "C-C-O"],
        }
        whole = Transfer(**options, reference="truth")
        write_run(directory, whole, "15 runs", {TRANSFER: about})
        for name in names["reference"]:
            self._write_part(directory / name, rng, is_model=False)
        for k, name in enumerate(names["model"]):
            if k < self.n_model - self.missing:
                self._write_part(directory / name, rng, is_model=True, k=k)
        return RunReader(directory)

    def _write_part(self, directory: Path, rng, is_model: bool, k: int = -1) -> None:
        n_frames = 1 + round(10 * self.length_ps)
        positions = drawn(rng, n_frames, self.shift * is_model)
        if is_model and k < self.broken:
            positions[n_frames // 2 :, [2, 8]] += np.array([0.0, 0.0, 3.0])
        ends = EventKind.STOPPED if is_model and k < self.early else EventKind.FINISHED
        if is_model and k >= self.n_model - self.unfinished:
            ends = EventKind.INTERRUPTED
        drift = 9e-3 * (self.drift if is_model else self.reference_drift)
        options = NVE(structure="ethanol", calculator="toy")
        write_run(
            directory, options, "blown up" if ends == EventKind.STOPPED else "", {}, ends, positions, drift
        )


def write_run(directory, options, message, files, ends=EventKind.FINISHED, positions=(), drift=0.0) -> None:
    """A run directory with frames every 100 fs, whose energy has noise and a drift in eV/ps."""
    from asecalc_ml.config.options import dump_yaml

    atoms, rng = load_structure("ethanol"), np.random.default_rng(1)
    finished = "now" if ends == EventKind.FINISHED else None
    interval = 100.0 if len(positions) else None
    writer = RunWriter.create(directory)
    writer.write_structure(START, atoms)
    writer.write_json(PROVENANCE, {"finished": finished, "frame_interval_fs": interval})
    for name, content in files.items():
        writer.write_json(name, content)
    for number, of_frame in enumerate(positions):
        atoms.positions = of_frame
        writer.frame(atoms, 0.0, np.zeros((9, 3)))
        total = 1e-4 * rng.standard_normal() + drift * 0.1 * number
        names = ("step", "time_fs", "potential_eV", "kinetic_eV", "total_eV", "temperature_K")
        values = (number, 100.0 * number, 0.0, 0.0, total, 300.0)
        writer.row(THERMO, dict(zip(names, values, strict=True)))
    writer.event(ends, message)
    writer.write(PROTOCOL, dump_yaml(options))
    writer.close()


def drawn(rng, n_frames: int, shift: float) -> np.ndarray:
    """Frames of ethanol whose C-C and C-O bonds and C-C-O angle scatter, and differ from run to run."""
    start = load_structure("ethanol").positions
    frames = np.repeat(start[None], n_frames, axis=0)
    along, back = (vector / np.linalg.norm(vector) for vector in (start[2] - start[1], start[0] - start[1]))
    across = back - (back @ along) * along
    spread = 0.03 * np.sqrt(rng.gamma(4, 1 / 4, 3))
    steps = rng.normal(0, 0.002, 3) + spread * rng.standard_normal((n_frames, 3))
    oxygen = (steps[:, :1] + shift) * along + steps[:, 1:2] * across
    frames[:, [2, 8]] += oxygen[:, None]
    frames[:, 0] += steps[:, 2:] * back
    return frames


def judge(directory: Path, case: Case) -> TransferResult:
    case.write(directory)
    return run_analyses(directory)[0]


def status_of(result: TransferResult, what: str) -> str:
    return next(one for one in result["ethanol"].checks if what in one.what).status


def test_the_reference_against_itself_passes(tmp_path):
    result = judge(tmp_path / "run", Case())
    (verdict,) = result.verdicts()
    assert verdict.status == "passed", verdict.text
    assert verdict.text.startswith("passed: bonds kept in 5 of 5 runs (at least 4); largest energy drift ")
    assert [one.pattern for one in result["ethanol"].distributions] == ["C-C", "C-O", "C-C-O"]
    assert {one.check.status for one in result.distributions} == {"passed"}


def test_a_bond_shifted_by_two_hundredths_fails_with_the_number_and_the_word(tmp_path):
    result = judge(tmp_path / "run", Case(shift=0.02))
    (verdict,) = result.verdicts()
    bond = next(one for one in result.distributions if one.pattern == "C-O")
    assert bond.distance == pytest.approx(0.02, abs=0.005)
    assert bond.bound < 0.01
    assert verdict.status == "failed"
    assert verdict.text.startswith(f"failed: C-O bond length: W1 {bond.distance:.3g} Å (at most ")
    assert status_of(result, "C-C bond") == "passed"
    row = next(row for row in result.tables()[0].rows if row[1].startswith("C-O"))
    assert row[2] == bond.distance
    assert row[-1] == "failed"
    moments = next(row for row in result.tables()[1].rows if row[1] == "C-O")
    means, widths = np.split(np.array(moments[3:], dtype=float), 2)
    assert means[1] - means[0] == pytest.approx(0.02, abs=0.005)
    assert widths[1] == pytest.approx(widths[0], rel=0.2)
    page = write_report(tmp_path / "run").read_text()
    assert verdict.text in page
    assert page.count("<svg") >= 3


def test_other_distributions_are_judged_afterwards(tmp_path):
    judge(tmp_path / "run", Case(shift=0.02))
    protocol = tmp_path / "run" / PROTOCOL
    protocol.write_text(protocol.read_text().replace("- C-C-O\n", "- O-C-H\n- C-N\n"))
    with pytest.warns(UserWarning, match="distributions: nothing in ethanol matches 'C-N'"):
        (result,) = run_analyses(tmp_path / "run")
    assert [one.pattern for one in result.distributions] == ["C-C", "C-O", "H-C-O"]


@pytest.mark.parametrize("given", ["[0-1]", "7"])
def test_distributions_that_mean_nothing_are_refused_afterwards_too(tmp_path, given):
    judge(tmp_path / "run", Case())
    protocol = tmp_path / "run" / PROTOCOL
    listed = "distributions:\n- C-C\n- C-O\n- C-C-O\n"
    assert listed in protocol.read_text()
    protocol.write_text(protocol.read_text().replace(listed, f"distributions: {given}\n"))
    with pytest.raises(ConfigError, check=told(name="distributions")):
        run_analyses(tmp_path / "run")


@pytest.mark.parametrize(("broken", "status"), [(0, "passed"), (1, "passed"), (2, "failed"), (5, "failed")])
def test_one_of_five_runs_may_lose_a_bond(tmp_path, broken, status):
    """Its distributions are left out, since they would be those of another molecule."""
    result = judge(tmp_path / "run", Case(broken=broken))
    assert status_of(result, "bonds") == status
    assert result["ethanol"].status == status
    bonds = result["ethanol"].checks[0]
    assert bonds.found == f"{5 - broken} of 5 runs"
    assert ("ethanol/model-1: C-O 1–2 broke at 5 ps" in bonds.text) == (broken > 0)
    assert {one.n_model for one in result.distributions} == {5 - broken}


def test_a_run_that_ended_early_has_not_kept_its_bonds(tmp_path):
    result = judge(tmp_path / "run", Case(early=2))
    assert status_of(result, "bonds") == "failed"
    assert "blown up" in result.verdicts()[0].text
    assert result["ethanol"].model_runs[0].state == "ended early"


@pytest.mark.parametrize(("drift", "status"), [(0.02, "passed"), (-0.3, "failed"), (0.3, "failed")])
def test_drift_has_a_bound(tmp_path, drift, status):
    result = judge(tmp_path / "run", Case(drift=drift))
    check = result["ethanol"].checks[1]
    assert check.status == status
    assert check.found == pytest.approx(abs(drift), abs=0.005)
    looser = TransferAnalysis(limit_meV_atom_ps=1.0).run(RunReader(tmp_path / "run"))
    assert status_of(looser, "drift") == "passed"


@pytest.mark.parametrize("shift", [0.0, 0.02])
def test_by_a_reference_that_drifts_no_distribution_is_judged(tmp_path, shift):
    """As GFN2-xTB does whose self-consistent field ends too early."""
    result = judge(tmp_path / "run", Case(reference_drift=-0.3, shift=shift))
    assert {one.check.status for one in result.distributions} == {"undecided"}
    (verdict,) = result.verdicts()
    assert verdict.status == "undecided"
    assert re.search(r"drift of the reference 0\.3\d* meV/atom/ps \(.*; converge the reference", verdict.text)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case(n_reference=7), "7 reference runs of 8 needed"),
        (Case(n_model=4), "5 runs needed"),
        (Case(length_ps=5.0), "5 ps of 10 ps needed"),
        (Case(unfinished=2), "the other runs are not complete"),
        (Case(missing=2), "the other runs are not complete"),
        (Case(n_model=1, missing=1), "no complete run of the model"),
        (Case(n_reference=1, n_model=1), "1 reference runs of 8 needed"),
    ],
)
def test_what_is_not_there_is_not_decided(tmp_path, case, reason):
    result = judge(tmp_path / "run", case)
    (verdict,) = result.verdicts()
    assert verdict.status == "undecided", verdict.text
    assert verdict.text.startswith("undecided: ")
    assert reason in verdict.text
    assert write_report(tmp_path / "run").stat().st_size > 10_000


def test_a_shift_is_no_verdict_with_seven_references_but_the_number_is_there(tmp_path):
    result = judge(tmp_path / "run", Case(n_reference=7, shift=0.02))
    bond = next(one for one in result.distributions if one.pattern == "C-O")
    assert bond.check.status == "undecided"
    assert bond.distance == pytest.approx(0.02, abs=0.005)


def test_results_read_back_and_repeat(tmp_path):
    result = judge(tmp_path / "run", Case(shift=0.02, broken=1))
    assert read_results(tmp_path / "run") == [result]
    assert TransferAnalysis().run(RunReader(tmp_path / "run")) == result
    with pytest.raises(AnalysisError, check=told(value="methanol", allowed=["ethanol"])):
        result["methanol"]


def test_another_run_is_no_transfer_test(tmp_path):
    Case().write(tmp_path / "run")
    with pytest.raises(AnalysisError, check=told(remedy="protocol transfer")):
        TransferAnalysis().run(RunReader(tmp_path / "run" / "ethanol" / "model-1"))


def test_bonds_are_those_of_the_molecule_not_of_a_hot_start(tmp_path):
    """A C-H bond that is long in the moment of the start is a bond all the same."""
    run = Case(seed=3).write(tmp_path / "run")
    for part in run.parts[8:]:
        hot = RunReader(part).atoms
        hot.positions[3] += 0.5 * (hot.positions[3] - hot.positions[0])
        writer = RunWriter.open(part)
        writer.write_structure(START, hot)
        writer.close()
    assert status_of(TransferAnalysis().run(run), "bonds") == "passed"
