"""Distances between distributions that are known, their intervals and their noise, and the page."""

import json
import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from hypothesis import given
from hypothesis import strategies as st
from raising import told
from scipy.optimize import linear_sum_assignment
from scipy.stats import ks_2samp
from scipy.stats import wasserstein_distance as scipy_wasserstein

from asecalc_ml.analysis.comparing.compare import compare
from asecalc_ml.analysis.comparing.comparison import Comparison
from asecalc_ml.analysis.comparing.page import write_page
from asecalc_ml.analysis.comparing.wasserstein import (
    Blocks,
    histogram_distance,
    measured_distance,
    wasserstein_distance,
)
from asecalc_ml.analysis.distributions.dihedrals import Dihedrals
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.errors import AnalysisError, ConfigError
from asecalc_ml.statistics.histogram import Histogram


def correlated(n: int, seed: int, memory: float = 0.9) -> np.ndarray:
    """A first-order autoregressive series with standard deviation 1."""
    from scipy.signal import lfilter

    noise = np.random.default_rng(seed).normal(size=n + 500) * np.sqrt(1 - memory**2)
    return lfilter([1.0], [1.0, -memory], noise)[500:]


def stretched(lengths: np.ndarray, card: dict | None = None) -> MemoryRun:
    """Nitrogen with given bond lengths."""
    positions = np.zeros((len(lengths), 2, 3))
    positions[:, 1, 2] = lengths
    return MemoryRun(Atoms("N2", [(0, 0, 0), (0, 0, 1.1)]), positions, 1.0, model_card=card)


def nitrogen(
    seed: int, shift: float = 0.0, n: int = 5000, std: float = 0.03, card: dict | None = None
) -> MemoryRun:
    return stretched(1.1 + shift + std * correlated(n, seed), card)


def test_a_known_shift_is_the_distance():
    result = compare({"a": nitrogen(1), "b": nitrogen(2, shift=0.05)}, ["N-N"])
    (found,) = result["N-N"].distances
    assert (found.first, found.second) == ("b", "a")
    assert found.distance == pytest.approx(0.05, abs=0.004)
    assert found.low < 0.05 < found.high
    assert found.high - found.low < 0.02
    assert found.agreement == "failed"


def test_distance_equals_that_of_scipy_and_so_does_kolmogorovs():
    runs = {"a": nitrogen(1), "b": nitrogen(2, shift=0.01, std=0.05)}
    (found,) = compare(runs, ["N-N"])["N-N"].distances
    one, other = (run.positions[:, 1, 2] for run in (runs["b"], runs["a"]))
    assert found.distance == pytest.approx(scipy_wasserstein(one, other), abs=3e-4)
    assert found.kolmogorov == pytest.approx(ks_2samp(one, other).statistic, abs=0.02)


def test_interval_holds_the_truth_in_most_cases():
    """95 % are asked for; blocks are few, so that some less are reached."""
    inside = 0
    for seed in range(60):
        (found,) = compare([nitrogen(seed), nitrogen(1000 + seed, shift=0.02)], ["N-N"])["N-N"].distances
        inside += found.low <= 0.02 <= found.high
    assert inside >= 50


def test_runs_of_one_distribution_are_seldom_told_apart():
    seen = [
        compare([nitrogen(k), nitrogen(500 + k)], ["N-N"])["N-N"].distances[0].agreement for k in range(60)
    ]
    assert 0 <= seen.count("failed") <= 9  # one in twenty, and few blocks


def test_nor_where_the_width_changes_slowly():
    """A vibration whose amplitude changes, while its mean does not."""

    def breathing(seed):
        amplitude = np.exp(0.4 * correlated(5000, seed, memory=0.99))
        return stretched(1.1 + 0.03 * amplitude * correlated(5000, 1000 + seed, memory=0.0))

    pairs = ([breathing(k), breathing(500 + k)] for k in range(30))
    seen = [compare(pair, ["N-N"])["N-N"].distances[0].agreement for pair in pairs]
    assert seen.count("failed") <= 5
    assert seen.count("undecided") <= 6


def test_nor_from_training_data_of_the_same_distribution():
    seen = []
    for k in range(30):
        training = card(1.1 + 0.03 * correlated(1000, 2000 + k, memory=0.0))
        run = stretched(1.1 + 0.03 * correlated(5000, k, memory=0.0), card=training)
        seen.append(compare([run], ["N-N"])["N-N"].distances[0].agreement)
    assert seen.count("failed") <= 5


def test_too_short_for_an_interval():
    (found,) = compare([nitrogen(1), nitrogen(2, n=4, shift=0.1)], ["N-N"])["N-N"].distances
    assert (found.low, found.noise, found.agreement) == (None, None, "undecided")
    assert found.distance == pytest.approx(0.1, abs=0.05)


def peroxide(centres: float | np.ndarray, card: dict | None = None) -> MemoryRun:
    """Hydrogen peroxide that twists around a dihedral, or around one in each frame."""
    start = molecule("H2O2")
    centres = np.broadcast_to(centres, 400) if np.ndim(centres) == 0 else centres
    frames = []
    for angle in centres + 3 * correlated(len(centres), int(centres[0]) % 7, memory=0.0):
        frames.append(start.copy())
        frames[-1].set_dihedral(2, 0, 1, 3, angle, indices=[3])
    return MemoryRun(start, [atoms.positions for atoms in frames], 1.0, model_card=card)


def test_around_the_circle():
    """Two narrow distributions at 170 and -170 degrees are 20 degrees apart, not 340."""
    (found,) = compare([peroxide(170), peroxide(-170)], ["H-O-O-H"])["H-O-O-H"].distances
    assert found.distance == pytest.approx(20, abs=1)


def test_the_training_data_of_a_dihedral():
    """At -178 degrees, of which as many frames are positive."""
    seen = Histogram.from_samples(half_open(-178 + 3 * correlated(400, 5, memory=0.0)), 5.0, 360.0)
    training = {"domain": {"dihedrals": {"H-O-O-H": seen.model_dump()}}}
    comparison = compare([peroxide(150, training)], ["H-O-O-H"])
    one = comparison["H-O-O-H"]
    (found,) = one.distances
    assert (found.second, one.training.histogram) == ("training data", seen)
    assert found.distance == pytest.approx(32, abs=1)
    row = comparison.tables()[1].rows[-1]
    assert row[2:5] == [pytest.approx(-178, abs=1), None, pytest.approx(3, abs=0.3)]
    result = Dihedrals(patterns=["H-O-O-H"]).run(peroxide(150, training))
    assert result["H-O-O-H"].training.distance == pytest.approx(32, abs=1)
    assert result["H-O-O-H"].training.values_outside > 0.9
    assert f"mean {seen.mean:.1f} °" in result.panels()[0].caption


def test_dihedrals_that_are_everywhere_have_a_noise_all_the_same():
    """Three wells alike have no mean direction; turned by 30 degrees they differ."""
    wells = np.random.default_rng(0).choice([-60, 60, 180], size=(2, 2000))
    runs = [peroxide(well + turn) for well, turn in zip(wells, (0, 30), strict=True)]
    (found,) = compare(runs, ["H-O-O-H"])["H-O-O-H"].distances
    assert found.distance == pytest.approx(30, abs=3)
    assert (found.agreement, found.noise < 29) == ("failed", True)


def half_open(degrees: np.ndarray) -> np.ndarray:
    return (degrees + 180) % 360 - 180


def test_circular_distance_of_two_points():
    """Mass at bin 0 and at bin 3 of 12: three bins one way, nine the other."""
    for far, expected in ((3, 3.0), (6, 6.0), (9, 3.0)):
        one, other = np.eye(12)[[0, far]].cumsum(axis=1)
        assert wasserstein_distance(one, other, 1.0, period=12) == expected
        assert wasserstein_distance(one, other, 1.0) == far


@given(st.integers(1, 12), st.data())
def test_circular_distance_by_assignment(n_bins, data):
    """Samples in a part of the circle, matched one by one as cheaply as can be."""
    samples = st.lists(st.integers(0, n_bins - 1), min_size=6, max_size=6)
    one, other = np.array(data.draw(samples)), np.array(data.draw(samples))
    cost = np.abs(one[:, None] - other)
    cost = np.minimum(cost, 12 - cost)
    cumulative = [np.bincount(each, minlength=n_bins).cumsum() / 6 for each in (one, other)]
    expected = cost[linear_sum_assignment(cost)].mean()
    assert wasserstein_distance(*cumulative, 1.0, period=12) == pytest.approx(expected)


def test_distance_of_histograms_is_the_distance_moved():
    samples = np.random.default_rng(0).normal(size=100)
    one, moved = (Histogram.from_samples(samples + shift, 0.25) for shift in (0.0, 0.5))
    assert histogram_distance([one], [moved]) == pytest.approx(0.5)
    assert histogram_distance([one, one], [one, moved]) == pytest.approx(0.25)


def test_without_blocks_there_is_no_noise():
    found = measured_distance(Blocks(np.array([[1, 0]])), Blocks(np.array([[0, 1]])), 0.5)
    assert found == (0.5, 0.5, 0.5, 0.0)


def card(samples) -> dict:
    seen = Histogram.from_samples(samples, width=0.02)
    return {
        "name": "some-model",
        "dataset": {"name": "hot", "temperature_K": 500.0},
        "domain": {"distances": {"N-N bonded": seen.model_dump()}},
    }


def test_the_training_data_stand_in_the_same_figure(tmp_path):
    training = card(1.1 + 0.06 * correlated(2000, 9, memory=0.0))
    result = compare({"cold": nitrogen(1, card=training), "hot": nitrogen(2, std=0.06)}, ["N-N"])
    one = result["N-N"]
    assert one.training.name == "training data, 500 K"
    by_pair = {(each.first, each.second): each for each in one.distances}
    assert set(by_pair) == {("hot", "cold"), ("cold", "training data"), ("hot", "training data")}
    expected = 0.03 * np.sqrt(2 / np.pi)  # of normal distributions of 0.03 and 0.06
    assert by_pair["cold", "training data"].distance == pytest.approx(expected, abs=0.003)
    assert by_pair["hot", "training data"].distance < 0.004
    assert by_pair["cold", "training data"].agreement == "failed"
    ax = result.plot()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["training data, 500 K", "cold", "hot"]


def test_another_reference_and_names():
    runs = {"a": nitrogen(1), "b": nitrogen(2), "c": nitrogen(3)}
    result = compare(runs, ["N-N"], reference="b")
    assert [one.name for one in result.runs] == ["b", "a", "c"]
    assert {one.second for one in result["N-N"].distances} == {"b"}
    with pytest.raises(AnalysisError, check=told(name="reference", value="d", allowed=["a", "b", "c"])):
        compare(runs, reference="d")
    with pytest.raises(AnalysisError, check=told(name="runs", remedy=True)):
        compare([])


def test_what_is_not_there_names_the_run():
    ethanol = molecule("CH3CH2OH")
    runs = {"n2": nitrogen(1), "ethanol": MemoryRun.from_frames([ethanol] * 3, 1.0)}
    with pytest.raises(AnalysisError, match=r"^ethanol: ", check=told(value="N-N", allowed=["C-C", "C-O"])):
        compare(runs, ["N-N"])
    with pytest.raises(ConfigError, check=told(name="N", allowed=(2, 3, 4))):
        compare(runs, ["N"])


def test_bonds_angles_and_dihedrals_together():
    ethanol = molecule("CH3CH2OH")
    noise = np.random.default_rng(0).normal(scale=0.03, size=(2, 300, len(ethanol), 3))
    runs = [MemoryRun(ethanol, ethanol.positions + one) for one in noise]
    result = compare(runs, ["C-C-O-H", "O-C", "C-C-O", "CH3-CH2"])
    assert [one.key for one in result.patterns] == [
        "bond-lengths C-O",
        "bond-lengths CH2-CH3",
        "angles C-C-O",
        "dihedrals C-C-O-H",
    ]
    assert [one.pattern for one in compare(runs).patterns] == ["C-C", "C-O", "C-C-O"]
    assert compare(runs) == compare(runs)


def test_page_and_files(tmp_path):
    training = card([1.05, 1.1, 1.15])
    result = compare({"<cold>": nitrogen(1, card=training), "hot": nitrogen(2, std=0.06)})
    page = write_page(result, tmp_path / "out").read_text()
    assert page.count("<svg") == 1
    assert "<cold>" not in page
    assert "&lt;cold&gt;" in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        "comparison.html",
        "comparison.json",
        "comparison_averages.csv",
        "comparison_bond-lengths_N-N.csv",
        "comparison_distances.csv",
    ]
    text = (tmp_path / "out" / "comparison.json").read_text()
    assert Comparison.model_validate_json(text) == result
    assert json.loads(text)["runs"][0]["n_frames"] == 5000


def vibrating(per_cm: float, n: int = 4000) -> MemoryRun:
    """Nitrogen that vibrates with a known frequency, with momenta, a frame each fs."""
    phase = 2 * np.pi * per_cm * 2.99792458e-5 * np.arange(n)
    positions, momenta = np.zeros((2, n, 2, 3))
    positions[:, 1, 2] = 1.1 + 0.03 * np.sin(phase)
    momenta[:, 1, 2] = np.cos(phase)
    return MemoryRun(Atoms("N2", positions[0]), positions, 1.0, momenta=momenta)


def test_spectra_of_runs_stand_side_by_side_at_one_resolution():
    runs = {"slow": vibrating(1000.0), "fast": vibrating(1500.0, n=2000), "still": nitrogen(1)}
    result = compare(runs, ["N-N"])
    (spectra,) = result.functions
    assert [curve.name for curve in spectra.curves] == ["slow", "fast"]
    for curve, expected in zip(spectra.curves, (1000.0, 1500.0), strict=True):
        assert curve.x[int(np.argmax(curve.y))] == pytest.approx(expected, abs=20)
        assert curve.x == spectra.curves[0].x
    assert "momenta" in spectra.missing["still"]
    assert 1500 < spectra.x_end < 3000
    panel = result.panels()[-1]
    assert "slow is the reference (dashed)" in panel.caption
    assert "Not of still: " in panel.caption
    assert len(result.plot(panel=panel.key).get_lines()) == 2


def test_frames_that_are_too_far_apart_for_a_spectrum_are_named():
    runs = [vibrating(1500.0), vibrating(1500.0)]
    assert "faster" not in compare(runs, ["N-N"]).panels()[-1].caption
    rare = MemoryRun(runs[0].atoms, runs[0].positions[::16], 16.0, momenta=runs[0].momenta[::16])
    caption = compare({"often": runs[1], "rare": rare}, ["N-N"]).panels()[-1].caption
    assert "Of rare frames resolve vibrations up to 1,042 cm⁻¹" in caption
    assert "Of often" not in caption


def test_a_calculator_is_named_as_in_the_report():
    one = nitrogen(1)
    run = MemoryRun(one.atoms, one.positions, options={"calculator": {"ase.calculators.emt:EMT": {}}})
    assert compare([run], ["N-N"]).runs[0].model == "ase.calculators.emt:EMT()"
    assert compare([one], ["N-N"]).runs[0].model == "calculator given in Python"


def test_radial_distributions_of_periodic_runs():
    rng = np.random.default_rng(0)
    gases = {}
    for name in ("one", "other"):
        atoms = Atoms("Ar20", rng.uniform(0, 9, (20, 3)), cell=[9, 9, 9], pbc=True)
        gases[name] = MemoryRun(atoms, rng.uniform(0, 9, (400, 20, 3)))
    radial = compare(gases, ["0-1"]).functions[0]
    assert radial.title == "Radial distribution Ar-Ar"
    for curve in radial.curves:
        assert np.mean(curve.y[40:]) == pytest.approx(1 - 1 / 20, abs=0.02)
    assert compare({"gas": gases["one"], "again": gases["one"]}, ["0-1"]).data()[-1].columns[2] == "g(r)"
