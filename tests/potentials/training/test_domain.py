"""The domain of training frames: the same however many samples are kept until they are counted."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from asecalc_ml.potentials.training.frames import domain
from asecalc_ml.structure.topology.bonds import bond_graph
from asecalc_ml.structure.topology.chains import all_chains, chain_values

KINDS = ("distances", "angles", "dihedrals")


def frames_of(start, n_frames: int = 5) -> list:
    random, frames = np.random.default_rng(0), []
    for _ in range(n_frames):
        atoms = start.copy()
        atoms.positions += random.normal(scale=0.02, size=atoms.positions.shape)
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros(atoms.positions.shape))
        frames.append(atoms)
    return frames


@pytest.mark.parametrize("start", [molecule("CH3CH2OH"), bulk("Cu", cubic=True), bulk("Si") * (2, 1, 1)])
def test_counting_early_changes_nothing(start, monkeypatch):
    frames = frames_of(start)
    whole = domain.measure_domain(frames, 4.0)
    monkeypatch.setattr(domain, "MAX_WAITING", 20)
    monkeypatch.setattr("asecalc_ml.structure.topology.chains.VALUES_AT_ONCE", 7)
    counted = domain.measure_domain(frames, 4.0)
    for kind in KINDS:
        ours, theirs = getattr(counted, kind), getattr(whole, kind)
        assert list(ours) == list(theirs)
        for name, histogram in ours.items():
            assert (histogram.start, histogram.counts) == (theirs[name].start, theirs[name].counts)
            assert histogram.mean == pytest.approx(theirs[name].mean, abs=1e-8)
            assert histogram.std == pytest.approx(theirs[name].std, abs=1e-8)


def test_chains_of_all_names_are_counted_once():
    frames = frames_of(molecule("CH3CH2OH"))
    found, graph = domain.measure_domain(frames, 4.0), bond_graph(frames[0])
    for kind, n_atoms in (("angles", 3), ("dihedrals", 4)):
        chains = all_chains(graph, n_atoms)
        values = [chain_values(np.diff(atoms.positions[chains.atoms], axis=1)) for atoms in frames]
        histograms = getattr(found, kind).values()
        assert sum(histogram.total for histogram in histograms) == np.size(values)
        if kind == "angles":
            total = sum(histogram.mean * histogram.total for histogram in histograms)
            assert total == pytest.approx(np.sum(values))
