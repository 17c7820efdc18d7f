"""Runs whose cell changes, as under a barostat: bonds across the faces, with the cell of each frame."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from raising import told

from asecalc_ml.analysis.checks.connectivity import Connectivity
from asecalc_ml.analysis.distributions.angles import Angles
from asecalc_ml.analysis.distributions.bond_lengths import BondLengths
from asecalc_ml.analysis.distributions.dihedrals import Dihedrals
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.errors import AnalysisError
from asecalc_ml.structure.topology.bonds import find_bonds_and_shifts

RNG = np.random.default_rng(0)


def breathing(atoms: Atoms, n_frames: int, wrap: bool, drift: float = 0.3) -> list[Atoms]:
    """A crystal whose cell swells, shears and drifts through its own faces."""
    frames, path = [], np.zeros(3)
    for k in range(n_frames):
        one = atoms.copy()
        strain = np.eye(3) * (1 + 0.1 * np.sin(0.3 * k)) + 0.05 * np.sin(0.2 * k) * np.eye(3, k=1)
        one.set_cell(one.cell.array @ strain, scale_atoms=True)
        path += RNG.normal(scale=drift, size=3)
        one.positions += path + RNG.normal(scale=0.03, size=one.positions.shape)
        if wrap:
            one.wrap()
        frames.append(one)
    return frames


@pytest.mark.parametrize("wrap", [False, True])
def test_bonds_of_a_breathing_crystal(wrap):
    """Two atoms in the cell, four bonds across its faces: brute force takes all images of each frame."""
    frames = breathing(bulk("C"), 40, wrap)
    run = MemoryRun.from_frames(frames, 1.0)
    lengths = BondLengths().run(run).values("C-C")
    shifts = np.stack(np.meshgrid(*[[-2, -1, 0, 1, 2]] * 3), axis=-1).reshape(-1, 3)
    for atoms, found in zip(frames, lengths, strict=True):
        vectors = atoms.positions[1] - atoms.positions[0] + shifts @ atoms.cell.array
        shortest = np.sort(np.linalg.norm(vectors, axis=1))[:4]
        assert np.sort(found) == pytest.approx(shortest)


def test_wrapping_changes_nothing_while_the_cell_changes():
    frames = breathing(bulk("Si", cubic=True), 30, wrap=False)
    wrapped = [atoms.copy() for atoms in frames]
    for atoms in wrapped:
        atoms.wrap()
    for analysis, pattern in ((BondLengths(), "Si-Si"), (Angles(), "Si-Si-Si")):
        one, other = (
            analysis.run(MemoryRun.from_frames(run, 1.0)).values(pattern) for run in (frames, wrapped)
        )
        assert one == pytest.approx(other, abs=1e-9)
    one, other = (
        Dihedrals().run(MemoryRun.from_frames(run, 1.0)).values("Si-Si-Si-Si") for run in (frames, wrapped)
    )
    assert np.exp(1j * np.radians(one)) == pytest.approx(np.exp(1j * np.radians(other)), abs=1e-9)


def test_a_cell_that_swells_breaks_bonds_and_one_that_shrinks_forms_them():
    frames = [bulk("C") for _ in range(3)]
    frames[1].set_cell(frames[1].cell * 1.1, scale_atoms=True)  # 1.70 Å
    frames[2].set_cell(frames[2].cell * 1.7, scale_atoms=True)  # 2.6 Å, 1.7 times the radii
    result = Connectivity().run(MemoryRun.from_frames(frames, 1.0))
    assert {(one.change, one.time_fs) for one in result.changes} == {("broke", 2.0)}
    argon = [Atoms("Ar", cell=[length] * 3, pbc=True) for length in (8.0, 8.0, 2.4)]
    result = Connectivity().run(MemoryRun.from_frames(argon, 1.0))
    assert [(one.atoms, one.change, one.time_fs) for one in result.changes] == [([0, 0], "formed", 2.0)]


def test_frames_of_other_atoms_are_refused():
    with pytest.raises(AnalysisError, check=told(name="frame 1", value="CO2", allowed="H2O", remedy=True)):
        MemoryRun.from_frames([molecule("H2O"), molecule("CO2")], 1.0)
    with pytest.raises(AnalysisError, check=told(name="frames", remedy=True)):
        MemoryRun.from_frames([], 1.0)


def test_a_slab_without_a_third_cell_vector():
    """Graphene with c = 0, its cell stretched along a."""
    graphene = Atoms(
        "C2", [[0, 0, 0], [0, 1.42, 0]], cell=[[2.46, 0, 0], [1.23, 2.13, 0], [0, 0, 0]], pbc=[1, 1, 0]
    )
    assert len(find_bonds_and_shifts(graphene)[0]) == 3
    frames = [graphene.copy() for _ in range(5)]
    for k, atoms in enumerate(frames):
        atoms.set_cell(atoms.cell.array * [1 + 0.01 * k, 1, 1], scale_atoms=False)
        atoms.positions[:, 0] -= 2.46 * k  # moves out of the cell
    lengths = BondLengths().run(MemoryRun.from_frames(frames, 1.0)).values("C-C")
    assert np.abs(lengths - 1.42).min(axis=1) == pytest.approx(0, abs=1e-9)  # the bond inside the cell
    assert lengths.max() == pytest.approx(np.hypot(1.23 * 1.04, 0.71), abs=1e-3)
