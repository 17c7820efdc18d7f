"""Diffusion with known answers: Brownian particles, a swinging box, a solid, MDAnalysis."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from raising import told

from asecalc_ml.analysis.distributions.unwrapping import UnwrappedPositions
from asecalc_ml.analysis.functions.mean_square_displacement import (
    DisplacementResult,
    MeanSquareDisplacement,
    mean_square_displacement,
)
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.errors import AnalysisError
from asecalc_ml.statistics.time_series import ThinnedSeries

D = 0.25  # Å²/ps
STEP_FS = 20.0


def paths(n_frames: int, n_atoms: int, seed: int = 0) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(
        scale=np.sqrt(2 * D * STEP_FS / 1000), size=(n_frames, n_atoms, 3)
    )
    return np.cumsum(steps, axis=0) + 4.0


def brownian(n_frames: int, n_atoms: int, wrap: bool = True, seed: int = 0) -> MemoryRun:
    """Independent Brownian particles with a known coefficient, in a small periodic box."""
    positions = paths(n_frames, n_atoms, seed)
    atoms = Atoms(f"Ar{n_atoms}", positions=positions[0], cell=[8.0] * 3, pbc=True)
    return MemoryRun(atoms, positions % 8.0 if wrap else positions, STEP_FS)


def test_known_coefficient_within_its_error():
    deviations = []
    for seed in range(8):
        run = brownian(2000, 20, seed=seed)
        result = MeanSquareDisplacement(relative_to_center_of_mass=False).run(run)["Ar"]
        assert result.exponent == pytest.approx(1, abs=0.15)
        deviations.append((result.diffusion_A2_ps - D) / result.error_A2_ps)
    assert np.sqrt(np.mean(np.square(deviations))) < 2.2
    assert max(map(abs, deviations)) < 5


def test_common_movement_can_be_taken_out():
    """Of N particles, the centre takes 1/N of the displacement with it."""
    run = brownian(1500, 4)
    analyses = [MeanSquareDisplacement(relative_to_center_of_mass=value) for value in (False, True)]
    whole, relative = (analysis.run(run)["Ar"].msd_A2[50] for analysis in analyses)
    assert relative / whole == pytest.approx(3 / 4, rel=0.15)


def test_wrapping_changes_nothing():
    one, other = (MeanSquareDisplacement().run(brownian(600, 5, wrap))["Ar"].msd_A2 for wrap in (True, False))
    assert one == pytest.approx(other, abs=1e-9)


def test_equals_brute_force():
    positions = paths(50, 3)
    moved = [positions[lag:] - positions[: 50 - lag] for lag in range(20)]
    brute = [np.mean(np.sum(one**2, axis=-1)) for one in moved]
    assert mean_square_displacement(positions, 19) == pytest.approx(brute, abs=1e-9)


def test_equals_mdanalysis_on_the_same_frames():
    msd = pytest.importorskip("MDAnalysis.analysis.msd")
    run = brownian(300, 6, wrap=False)
    ours = MeanSquareDisplacement(relative_to_center_of_mass=False).run(run)
    theirs = msd.EinsteinMSD(run.universe(), select="all", msd_type="xyz", fft=False).run()
    assert ours["Ar"].msd_A2 == pytest.approx(theirs.results.timeseries[:31], rel=1e-4)


def swinging(n_frames: int) -> tuple[MemoryRun, np.ndarray]:
    """Atoms at rest in fractions of a box that breathes, one of them followed into a far image."""
    lengths = 10 + np.sin(0.1 * np.arange(n_frames))
    fractional = np.array([[0.1, 0.2, 0.3], [50.4, 0.5, 0.6]])
    positions = fractional * lengths[:, None, None]
    atoms = Atoms("Ar2", positions=positions[0], cell=[lengths[0]] * 3, pbc=True)
    return MemoryRun(atoms, positions, STEP_FS, cells=lengths[:, None, None] * np.eye(3)), lengths


def test_a_breathing_box_does_not_make_atoms_diffuse():
    """Fifty cells away the box would swing the atom by 50 Å; in truth it moves as within the cell."""
    run, lengths = swinging(300)
    (frames,) = run.frame_chunks(300)
    found = UnwrappedPositions(run)(frames)
    expected = 0.4 * lengths  # from 50.4
    assert found[:, 1, 0] - found[0, 1, 0] == pytest.approx(expected - expected[0])


EQUIVALENT = {
    "cubic": np.eye(3),
    "face-diagonals": [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
    "skewed": [[1, 0, 0], [6, 1, 0], [0, 0, 1]],
    "very-skewed": [[1, 0, 0], [40, 1, 0], [-7, 25, 1]],
}


def breathing(vectors, slab: bool = False) -> MemoryRun:
    """Atoms at rest in fractions of a box whose length fluctuates by 1 %, correlated over fifty frames."""
    rng, length = np.random.default_rng(0), np.zeros(2000)
    for k in range(1, 2000):
        length[k] = 0.98 * length[k - 1] + 0.01 * np.sqrt(1 - 0.98**2) * rng.normal()
    positions = rng.uniform(0, 10, (30, 3)) * (1 + length[:, None, None])
    cells = np.asarray(vectors) * 10 * (1 + length[:, None, None])
    atoms = Atoms("Ar30", positions=positions[0], cell=cells[0], pbc=[True, True, not slab])
    return MemoryRun(atoms, positions, STEP_FS, cells=cells)


@pytest.mark.parametrize("vectors", EQUIVALENT.values(), ids=EQUIVALENT)
def test_displacements_do_not_depend_on_the_cell_vectors_of_the_lattice(vectors):
    """In a skewed cell atoms lie far from the origin, and swing farther with the cell."""
    for relative in (True, False):
        options = MeanSquareDisplacement(relative_to_center_of_mass=relative)
        found = options.run(breathing(vectors))["Ar"].msd_A2
        assert max(found) < 0.01
        assert found == pytest.approx(options.run(breathing(np.eye(3)))["Ar"].msd_A2, abs=1e-9)


LONG = [[-3, 11, -7], [2, -11, 7], [-2, 8, -5]]  # determinant 1


@pytest.mark.parametrize("shifts", [np.eye(3), LONG], ids=["short", "long"])
def test_lattices_with_several_reduced_cells_swing_no_farther(shifts):
    options = MeanSquareDisplacement(relative_to_center_of_mass=False)
    face_centred = 0.7 * (1 - np.eye(3))
    assert max(options.run(breathing(shifts @ face_centred))["Ar"].msd_A2) < 0.01


def test_equivalent_vectors_of_a_slab():
    run, skewed = breathing(np.eye(3), slab=True), breathing([[1, 0, 0], [9, 1, 0], [0, 0, 1]], slab=True)
    one, other = (MeanSquareDisplacement().run(each)["Ar"].msd_A2 for each in (run, skewed))
    assert one == pytest.approx(other, abs=1e-9)


def test_chunks_make_no_difference():
    run = brownian(500, 4)
    measurement = MeanSquareDisplacement().prepare(run)
    for frames in run.frame_chunks(7):
        measurement.frames(frames)
    found = measurement.conclude()
    assert found["Ar"].msd_A2 == pytest.approx(MeanSquareDisplacement().run(run)["Ar"].msd_A2, abs=1e-9)


def test_a_solid_does_not_diffuse():
    atoms = bulk("Cu", cubic=True)
    noise = np.random.default_rng(0).normal(scale=0.1, size=(1000, 4, 3))
    result = MeanSquareDisplacement().run(MemoryRun(atoms, atoms.positions + noise, STEP_FS))
    assert result["Cu"].diffusion_A2_ps is None
    assert result["Cu"].exponent == pytest.approx(0, abs=0.05)
    assert "no diffusion (grows as t to the power of" in result.panels()[0].caption
    assert result["Cu"].msd_A2[50] == pytest.approx(6 * 0.01 * 3 / 4, rel=0.1)  # without the centre of mass


def test_too_few_frames():
    with pytest.raises(AnalysisError, check=told(value=30, remedy="fit_to_ps")):
        MeanSquareDisplacement().run(brownian(30, 2))
    with pytest.raises(AnalysisError, check=told(name="trajectory", remedy="run longer")):
        MeanSquareDisplacement().run(MemoryRun(bulk("Cu"), np.empty((0, 1, 3))))


def test_elements_apart_written_read_and_drawn(tmp_path):
    run = brownian(400, 4)
    run.atoms.numbers[:2] = 10
    result = MeanSquareDisplacement().run(run)
    assert [one.element for one in result.elements] == ["Ar", "Ne"]
    written = result.write(tmp_path)
    assert DisplacementResult.model_validate_json(written[0].read_text()) == result
    ax = result.plot()
    assert ax.get_ylabel() == "mean-square displacement (Å²)"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["Ar", "Ne"]


@pytest.mark.parametrize("sizes", [[1000], [1] * 1000, [3, 500, 497]])
def test_thinned_series_keeps_every_nth(sizes):
    values = np.arange(1000.0)[:, None]
    series = ThinnedSeries(max_values=200)
    for part in np.split(values, np.cumsum(sizes)[:-1]):
        series.add(part)
    assert series.stride == 8
    assert series.rows.ravel().tolist() == list(range(0, 1000, 8))


def test_a_fit_from_less_than_a_step_begins_with_the_first():
    result = MeanSquareDisplacement(fit_from_ps=1e-9).run(brownian(600, 5))
    assert result.fit_from_ps == pytest.approx(STEP_FS / 1000)
    assert np.isfinite(result["Ar"].exponent)


# ------------------------------------------------------------------------------------- slabs and wires


def in_the_plane(rows: np.ndarray, cell, pbc, n_frames: int = 2000) -> MemoryRun:
    """Particles that diffuse along orthonormal rows and swing along the others, put back into the cell."""
    steps = paths(n_frames, 20)[..., : len(rows)] @ rows
    others = np.linalg.svd(rows)[2][len(rows) :]
    swing = np.random.default_rng(1).normal(scale=0.5, size=(n_frames, 20, len(others))) @ others
    atoms = Atoms("Ar20", positions=steps[0], cell=cell, pbc=pbc)
    frames = []
    for positions in steps + swing:
        atoms.positions = positions
        frames.append(atoms.copy())
        frames[-1].wrap()
    return MemoryRun.from_frames(frames, STEP_FS)


PLANE = np.array([[1, 0, 1], [0, np.sqrt(2), 0]]) / np.sqrt(2)


@pytest.mark.parametrize(
    ("rows", "cell", "pbc", "directions"),
    [
        (np.eye(3)[:2], [8, 8, 20], [1, 1, 0], ["a", "b"]),
        (np.eye(3)[:2], [[8, 0, 0], [48, 8, 0], [3, 1, 0.1]], [1, 1, 0], ["a", "b"]),
        (PLANE, [[8, 0, 8], [0, 0, 0], [8, 8, 8]], [1, 0, 1], ["a", "c"]),
        (np.eye(3)[2:], [8, 8, 9], [0, 0, 1], ["c"]),
    ],
    ids=["slab", "skewed slab", "tilted slab", "wire"],
)
def test_diffusion_along_the_periodic_directions(rows, cell, pbc, directions):
    """D = MSD / 2d along d directions; what swings along the others does not count."""
    result = MeanSquareDisplacement(relative_to_center_of_mass=False).run(in_the_plane(rows, cell, pbc))
    found = result["Ar"]
    assert (result.directions, result.dimensions) == (directions, len(directions))
    assert abs(found.diffusion_A2_ps - D) < 4 * found.error_A2_ps
    assert found.msd_A2[1] == pytest.approx(2 * len(rows) * D * STEP_FS / 1000, rel=0.05)
    assert f"along {' and '.join(directions)} " in result.panels()[0].caption
    assert f"over {2 * len(rows)}, twice" in result.tables()[0].caption


def test_directions_can_be_given():
    """A slab in a cell that is periodic along the vacuum, too."""
    run = in_the_plane(np.eye(3)[:2], [8, 8, 20], True)
    found = MeanSquareDisplacement(relative_to_center_of_mass=False, directions=["b", "a"]).run(run)
    assert found.directions == ["a", "b"]
    assert found["Ar"].diffusion_A2_ps == pytest.approx(D, rel=0.2)
    across = MeanSquareDisplacement(relative_to_center_of_mass=False, directions=["c"]).run(run)
    assert across["Ar"].diffusion_A2_ps is None
    assert across["Ar"].msd_A2[5] == pytest.approx(2 * 0.5**2, rel=0.05)
    for wrong in ([], ["a", "a"], ["x"]):
        with pytest.raises(ValueError, match="directions"):
            MeanSquareDisplacement(directions=wrong)


def test_a_cluster_moves_in_three_directions():
    run = MemoryRun(Atoms("Ar20"), paths(2000, 20), STEP_FS)
    result = MeanSquareDisplacement(relative_to_center_of_mass=False).run(run)
    assert result.dimensions == 3
    assert result["Ar"].diffusion_A2_ps == pytest.approx(D, rel=0.2)


def test_results_of_earlier_versions_are_read():
    """They hold no directions and were a sixth of the slope."""
    result = MeanSquareDisplacement().run(brownian(600, 5))
    earlier = result.model_dump()
    del earlier["directions"]
    assert DisplacementResult.model_validate(earlier) == result
