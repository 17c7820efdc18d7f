"""Radial distributions with known answers: ideal gas, cubic lattice, a cell that changes, MDAnalysis."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from raising import told

from asecalc_ml.analysis.functions.radial_distribution import RadialDistribution, RadialResult
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.errors import AnalysisError

RNG = np.random.default_rng(0)


def ideal_gas(n_atoms: int, n_frames: int, lengths, symbols: str = "") -> MemoryRun:
    """Atoms anywhere in a cubic cell whose length differs from frame to frame."""
    atoms = Atoms(
        symbols or f"Ar{n_atoms}", cell=[lengths[0]] * 3, pbc=True, positions=np.zeros((n_atoms, 3))
    )
    lengths = np.resize(lengths, n_frames)
    positions = RNG.random((n_frames, n_atoms, 3)) * lengths[:, None, None]
    return MemoryRun(atoms, positions, cells=lengths[:, None, None] * np.eye(3))


@pytest.mark.parametrize("lengths", [[12.0], [10.0, 14.0]])
def test_ideal_gas_is_one(lengths):
    """Less 1/N between like atoms, since an atom is no neighbor of its own."""
    run = ideal_gas(60, 200, lengths, "Ar40Ne20")
    result = RadialDistribution(range_A=4.5, bin_A=0.5).run(run)
    for pattern, expected in (("Ar-Ar", 1 - 1 / 40), ("Ar-Ne", 1.0), ("Ne-Ne", 1 - 1 / 20)):
        curve = result[pattern]
        errors = np.array(curve.errors[1:])
        assert np.abs(np.array(curve.values[1:]) - expected).max() < 4.5 * errors.max()
        deviations = (np.array(curve.values[1:]) - expected) / errors
        assert np.sqrt(np.mean(deviations**2)) < 2.0
        assert np.average(curve.values, weights=np.arange(9) ** 2 + 1) == pytest.approx(expected, abs=0.03)


def test_simple_cubic_lattice_counts_its_shells():
    """6 neighbors at a, 12 at √2 a, 8 at √3 a, 6 at 2 a: from one atom, all others are its images."""
    atoms = Atoms("Po", cell=[3.0] * 3, pbc=True)
    result = RadialDistribution(range_A=6.5, bin_A=0.1).run(MemoryRun(atoms, np.zeros((3, 1, 3))))
    curve = result["Po-Po"]
    shells = {k: round(float(n)) for k, n in enumerate(np.diff(curve.coordination, prepend=0.0)) if n > 0}
    distances = 3.0 * np.sqrt([1, 2, 3, 4])
    assert shells == {int(r / 0.1 + 1e-9): n for r, n in zip(distances, (6, 12, 8, 6), strict=True)}
    density = 1 / 27
    volume = 4 / 3 * np.pi * (3.1**3 - 3.0**3)
    assert curve.values[30] == pytest.approx(6 / (density * volume))
    row = dict(zip(result.tables()[0].columns, result.tables()[0].rows[0], strict=True))
    assert (row["first peak (Å)"], row["neighbors up to it"]) == pytest.approx((3.05, 6))


def test_integral_is_the_coordination_number():
    run = MemoryRun.from_frames([bulk("NaCl", "rocksalt", a=5.64)] * 2, 1.0)
    result = RadialDistribution(pairs=["Cl-Na", "Na-Na"], range_A=4.5, bin_A=0.1).run(run)
    assert result["Cl-Na"].coordination[-1] == pytest.approx(6)
    assert result["Na-Na"].coordination[-1] == pytest.approx(12)
    volume, edges = 5.64**3 / 4, 0.1 * np.arange(46)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    assert np.sum(result["Na-Na"].values * shells) / volume == pytest.approx(12)


def test_each_frame_counts_with_its_own_volume():
    """Scaled together, cell and positions: a lattice of any size has the g(r) of its own density."""
    frames = []
    for length in (3.05, 3.35):
        frames.append(Atoms("Po", cell=[length] * 3, pbc=True))
    result = RadialDistribution(range_A=3.5, bin_A=0.1).run(MemoryRun.from_frames(frames, 1.0))
    for r, length in ((30, 3.05), (33, 3.35)):
        shell = 4 / 3 * np.pi * (((r + 1) * 0.1) ** 3 - (r * 0.1) ** 3)
        assert result["Po-Po"].values[r] == pytest.approx(0.5 * 6 * length**3 / shell)


def test_equals_mdanalysis_on_the_same_frames():
    rdf = pytest.importorskip("MDAnalysis.analysis.rdf")
    run = ideal_gas(30, 20, [9.0], "Ar20Ne10")
    ours = RadialDistribution(pairs=["Ar-Ne", "Ar-Ar"], range_A=4.5, bin_A=0.3, stride=1).run(run)
    universe = run.universe()
    for pattern, names in (("Ar-Ne", ("Ar", "Ne")), ("Ar-Ar", ("Ar", "Ar"))):
        groups = [universe.select_atoms(f"element {name}") for name in names]
        theirs = rdf.InterRDF(*groups, nbins=15, range=(0.0, 4.5), norm="rdf", backend="serial").run()
        assert ours[pattern].values[1:] == pytest.approx(theirs.results.rdf[1:], rel=2e-3, abs=2e-3)


def test_a_molecule_has_distances_and_no_density():
    water = molecule("H2O")
    run = MemoryRun.from_frames([water] * 5, 1.0)
    result = RadialDistribution(pairs=["H-O", "H-H"], range_A=3, bin_A=0.01).run(run)
    assert not result.is_normalised
    curve = result["O-H"]
    assert np.sum(curve.values) * 0.01 == pytest.approx(1)
    assert curve.coordination is None
    assert curve.n_pairs == 2
    assert result["H-H"].n_pairs == 1
    assert result.centers[np.argmax(curve.values)] == pytest.approx(water.get_distance(0, 1), abs=0.005)
    assert "no density to divide by" in result.panels()[0].caption


def test_frames_are_thinned_evenly_whatever_the_chunks():
    run = ideal_gas(5, 50, [8.0])
    whole = RadialDistribution(stride=7).run(run)
    measurement = RadialDistribution(stride=7).prepare(run)
    for frames in run.frame_chunks(4):
        measurement.frames(frames)
    assert (whole.n_frames, whole.stride) == (8, 7)
    assert measurement.conclude() == whole


def test_half_the_width_by_default_and_missing_elements():
    run = ideal_gas(5, 2, [8.0])
    assert len(RadialDistribution().run(run)["Ar-Ar"].values) == 80
    with pytest.raises(AnalysisError, check=told(name="Ar-He", value="He", allowed=["Ar"])):
        RadialDistribution(pairs=["Ar-He"]).run(run)
    with pytest.raises(AnalysisError, check=told(name="trajectory", remedy="run longer")):
        RadialDistribution().run(MemoryRun(run.atoms, np.empty((0, 5, 3))))


def test_written_read_and_drawn(tmp_path):
    result = RadialDistribution().run(ideal_gas(20, 40, [8.0]))
    paths = result.write(tmp_path)
    assert RadialResult.model_validate_json(paths[0].read_text()) == result
    assert len(paths) == 3
    ax = result.plot()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("distance (Å)", "g(r)")
