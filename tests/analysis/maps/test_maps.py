"""Maps of representations and the roughness of what lies on them."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given
from hypothesis import strategies as st
from raising import told
from scipy.spatial.distance import pdist, squareform
from scipy.stats import kstest
from typer.testing import CliRunner

from asecalc_ml.analysis import maps
from asecalc_ml.analysis.maps.fingerprints import fingerprints
from asecalc_ml.analysis.maps.projections import principal_components
from asecalc_ml.analysis.maps.roughness import (
    relative_distances,
    roughness_index,
    roughness_index_xd,
    standard_errors,
)
from asecalc_ml.cli.ml import app
from asecalc_ml.errors import AnalysisError, ConfigError
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.jat import JAT
from asecalc_ml.statistics.spatial import nearest_neighbors, spatial_autocorrelation

seeds = st.integers(0, 2**32 - 1)

# ---------------------------------------------------------------------------------------------- roughness


def tree(depth: int, heights: list[float]) -> np.ndarray:
    """Distances between the leaves of a binary tree: ``heights[k]`` where they meet k + 1 levels up."""
    leaves = np.arange(2**depth)
    square = np.zeros((len(leaves), len(leaves)))
    for level in reversed(range(depth)):
        apart = leaves[:, None] >> level != leaves[None] >> level
        square[apart] = np.maximum(square[apart], heights[level])
    return squareform(square, checks=False)


def by_hand(values: np.ndarray, heights: list[float]) -> float:
    """ROGI of a tree: between two heights every leaf has the mean of its branch."""
    scaled = (values - values.min()) / np.ptp(values)
    left = [2 * scaled.reshape(-1, 2**level).mean(axis=1).std() for level in range(len(heights) + 1)]
    steps = np.diff([0.0, *heights, 1.0])
    return sum((left[0] - now) * step for now, step in zip(left, steps, strict=True))


@given(seeds, st.integers(1, 5))
def test_roughness_of_a_tree_is_that_by_hand(seed, depth):
    rng = np.random.default_rng(seed)
    heights, values = sorted(rng.uniform(0.05, 1, depth)), rng.normal(size=2**depth)
    assert roughness_index(values, tree(depth, heights)) == pytest.approx(by_hand(values, heights), abs=1e-12)


def test_pairs_of_opposites_are_as_rough_as_can_be_and_two_far_groups_as_smooth():
    opposites, groups = np.tile([0.0, 1.0], 8), np.repeat([0.0, 1.0], 8)
    heights = [1e-6, 1.0, 1.0, 1.0]
    assert roughness_index(opposites, tree(4, heights)) == pytest.approx(1, abs=1e-5)
    assert roughness_index(groups, tree(4, [1e-6, 1e-6, 1e-6, 1.0])) == pytest.approx(0, abs=1e-5)


def test_a_constant_is_smooth():
    assert roughness_index(np.full(8, 3.0), tree(3, [0.1, 0.2, 1.0])) == 0


def test_noise_makes_a_slope_rougher_and_shuffling_roughest():
    rng = np.random.default_rng(0)
    places = rng.uniform(size=(200, 1))
    distances, slope = relative_distances(places, "euclidean"), places[:, 0]
    noisy = slope + rng.normal(scale=0.1, size=200)
    found = [roughness_index(values, distances) for values in (slope, noisy, rng.permutation(slope))]
    assert found == sorted(found)
    assert found[1] - found[0] > 0.01
    assert found[2] > 0.4


@given(seeds, st.floats(0.01, 100), st.floats(-100, 100))
def test_units_of_the_property_and_of_the_points_do_not_matter(seed, factor, offset):
    rng = np.random.default_rng(seed)
    values, points = rng.normal(size=20), rng.normal(size=(20, 3))
    expected = roughness_index(values, relative_distances(points, "cityblock"))
    found = roughness_index(
        factor * values + offset, relative_distances(factor * points + offset, "cityblock")
    )
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "cosine"])
def test_steps_are_those_of_the_authors_code(metric):
    rogi = pytest.importorskip("rogi", reason="the authors' code: pip install rogi")
    rng = np.random.default_rng(1)
    points, values = rng.uniform(size=(60, 4)), rng.normal(size=60)
    theirs = rogi.RoughnessIndex(Y=values, X=points, metric=metric, verbose=False)
    rule = theirs.compute_index(min_dt=0.0)
    left, thresholds = theirs.property_moments, theirs.distance_thresholds
    exact = left[0] - np.diff(thresholds) @ left[:-1]
    found = roughness_index(values, relative_distances(points, metric))
    assert found == pytest.approx(exact, abs=1e-10)
    assert found == pytest.approx(rule, abs=0.03)  # their trapezoids


def test_the_error_shrinks_with_the_number_of_points():
    rng = np.random.default_rng(2)
    errors = []
    for n_points in (30, 480):
        points = rng.uniform(size=(n_points, 2))
        values = points[:, 0] + rng.normal(scale=0.2, size=n_points)
        errors.append(standard_errors(values, relative_distances(points, "euclidean"), 20, seed=0))
    assert errors[1][0] < 0.7 * errors[0][0]
    assert errors[1][1] < 0.7 * errors[0][1]
    assert standard_errors(values, pdist(points), 0, seed=0) == (None, None)


def test_errors_of_halves_are_those_of_new_samples():
    """The standard deviation over many independent sets of points."""
    rng = np.random.default_rng(3)

    def sample():
        points = rng.uniform(size=(80, 2))
        values = points[:, 0] + rng.normal(scale=0.2, size=80)
        return values, relative_distances(points, "euclidean")

    samples = [sample() for _ in range(60)]
    spread = np.std(
        [[index(*one) for index in (roughness_index, roughness_index_xd)] for one in samples], axis=0
    )
    halves = np.mean([standard_errors(*one, 40, seed=0) for one in samples[:15]], axis=0)
    assert halves == pytest.approx(spread, rel=0.4)


def clusters_of_threshold(values, distances) -> float:
    """ROGI-XD as its definition says: clusters by a threshold at every distance that merges some."""
    from scipy.cluster.hierarchy import fcluster, linkage

    merges, scaled = linkage(distances, "complete"), (values - values.min()) / np.ptp(values)
    rows = [(len(values), 2 * scaled.std())]
    for threshold in np.unique(merges[:, 2]):
        labels = fcluster(merges, threshold, "distance")
        means = np.array([scaled[labels == label].mean() for label in labels])
        rows.append((labels.max(), 2 * means.std()))
    n_clusters, dispersions = np.array(rows).T
    x = 1 - np.log(n_clusters) / np.log(len(values))
    area = sum((x[k + 1] - x[k]) * (dispersions[k + 1] + dispersions[k]) / 2 for k in range(len(x) - 1))
    return 2 * scaled.std() - area


@given(seeds, st.sampled_from(["euclidean", "cosine", "tanimoto"]))
def test_rogi_xd_is_that_of_its_definition(seed, metric):
    """Bits have many equal distances, whose merges are one step."""
    rng = np.random.default_rng(seed)
    points, values = rng.normal(size=(25, 6)), rng.normal(size=25)
    points = points > 0 if metric == "tanimoto" else points
    distances = relative_distances(points, metric)
    assert roughness_index_xd(values, distances) == pytest.approx(
        clusters_of_threshold(values, distances), abs=1e-7
    )


@given(seeds)
def test_rogi_xd_knows_the_order_of_distances_alone(seed):
    """So that it compares representations whose distances are of different size."""
    rng = np.random.default_rng(seed)
    points, values = rng.normal(size=(20, 3)), rng.normal(size=20)
    distances = pdist(points)
    expected = roughness_index_xd(values, distances)
    assert roughness_index_xd(values, 7 * distances**3) == pytest.approx(expected, abs=1e-7)
    assert roughness_index_xd(5 - 2 * values, distances) == pytest.approx(expected, abs=1e-7)


def test_rogi_xd_does_not_grow_with_dimensions_that_only_stretch_distances():
    """In many dimensions all distances are alike; ROGI-XD still tells rough from smooth."""
    rng = np.random.default_rng(0)
    line = rng.uniform(size=(300, 1))
    wide = np.hstack([line, 0.02 * rng.normal(size=(300, 40))])
    random = rng.permutation(line[:, 0])
    for points in (line, wide):
        distances = relative_distances(points, "euclidean")
        assert roughness_index_xd(line[:, 0], distances) < 0.6 * roughness_index_xd(random, distances)
    smooth = [
        roughness_index_xd(line[:, 0], relative_distances(points, "euclidean")) for points in (line, wide)
    ]
    assert smooth[1] == pytest.approx(smooth[0], abs=0.1)


# ------------------------------------------------------------------------------------ values of neighbors


def test_neighbors_on_a_line_and_shuffled_values():
    line = np.arange(200.0)[:, None]
    neighbors = nearest_neighbors(line, 2)
    assert sorted(neighbors[100]) == [99, 101]
    found = spatial_autocorrelation(line[:, 0], neighbors)
    assert found.morans_i > 0.99
    assert found.p_value == 0.01
    assert found.difference == pytest.approx(1, abs=0.02)
    every = np.abs(line - line.T)
    assert found.mean_difference == pytest.approx(every.sum() / (200 * 199))
    opposite = spatial_autocorrelation((-1.0) ** np.arange(200), neighbors)
    assert opposite.morans_i < -0.98
    assert opposite.p_value == 1


def test_p_values_are_uniform_where_values_know_nothing_of_points():
    rng = np.random.default_rng(0)
    neighbors = nearest_neighbors(rng.normal(size=(60, 2)), 5)
    found = [spatial_autocorrelation(rng.normal(size=60), neighbors, 39, seed) for seed in range(200)]
    assert kstest([one.p_value for one in found], "uniform").pvalue > 0.01
    assert np.mean([one.shuffled_mean for one in found]) == pytest.approx(-1 / 59, abs=0.005)


def test_points_on_one_place_are_neighbors():
    neighbors = nearest_neighbors(np.zeros((6, 2)), 3)
    assert not (neighbors == np.arange(6)[:, None]).any()
    assert all(len(set(row)) == 3 for row in neighbors.tolist())


def test_a_map_says_how_alike_neighbors_are():
    """In the representation and in each projection; energies of shuffled structures are those of others."""
    found = maps.draw_map(random_model(), shaken(40), neighbors=5, dimensions=3, bootstraps=0, quiet=True)
    energy = [one for one in found.neighbor_similarity if one.quantity == "energy"]
    assert [one.projection for one in energy] == ["none", "pca"]
    for one in energy:
        assert one.morans_i > 5 * one.shuffled_std
        assert one.difference < one.mean_difference
    assert np.array(found.projections[0].points).shape == (40, 3)
    assert len(found.projections[0].explained) == 3
    assert len(found.data()[0].columns) == 3 + len(found.quantities)
    assert "Moran" in found.panels()[1].caption
    assert found.plot(panel=found.panels()[0].key).get_xlabel()


def test_an_entry_of_the_info_and_a_prediction_of_one_name_are_told_apart():
    frames = shaken(5)
    for number, atoms in enumerate(frames):
        atoms.info["energy"] = 0.5 * number
    found = maps.draw_map(random_model(), frames, info="energy", metrics=[], quiet=True)
    assert found.of("energy-info").values == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert found.of("energy").values != found.of("energy-info").values


# ------------------------------------------------------------------------------------------ projections


@given(seeds)
def test_two_dimensions_keep_all_distances(seed):
    rng = np.random.default_rng(seed)
    plane = rng.normal(size=(12, 2))
    turned = plane @ np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]
    found, explained = principal_components(turned)
    assert pdist(found) == pytest.approx(pdist(plane), abs=1e-9)
    assert sum(explained) == pytest.approx(1)
    variances = np.linalg.eigvalsh(np.cov(plane.T))[::-1]
    assert explained == pytest.approx(variances / variances.sum(), abs=1e-9)


def test_equal_points_have_no_directions():
    found, explained = principal_components(np.ones((5, 3)))
    assert not found.any()
    assert explained == (0, 0)


# ------------------------------------------------------------------------------------------------- maps


def random_model() -> Model:
    torch.manual_seed(0)
    return Model(JAT(hidden_channels=16, n_layers=1, cutoff_A=4.0).build())


def shaken(n_frames: int, name: str = "CH3CH2OH") -> list[Atoms]:
    frames = []
    for seed in range(n_frames):
        atoms = molecule(name)
        atoms.rattle(0.08, seed=seed)
        frames.append(atoms)
    return frames


def test_points_do_not_turn_with_the_molecule():
    frames, turned = shaken(4), shaken(4)
    for atoms in turned:
        atoms.rotate(70, (1, 2, 3))
        atoms.translate((1, 2, 3))
    model = random_model()
    first, second = (maps.draw_map(model, own, metrics=[], quiet=True) for own in (frames, turned))
    assert np.array(first.projections[0].points) == pytest.approx(
        np.array(second.projections[0].points), abs=1e-8
    )
    assert first.of("energy").values == pytest.approx(second.of("energy").values, abs=1e-9)


def test_mean_features_give_the_energy_per_atom():
    from asecalc_ml.analysis.maps.predictions import predict
    from asecalc_ml.analysis.relevance.source import Source

    source, frames = Source.of(random_model()), shaken(3)
    last = [
        layer for layer in source.model.potential.readout.modules() if isinstance(layer, torch.nn.Linear)
    ][-1]
    for one in predict(source, frames, quiet=True):
        energy = one.features.mean(axis=0) @ last.weight[0].numpy() + last.bias[0].item()
        assert one.value / len(one.features) == pytest.approx(energy, abs=1e-10)
        assert one.contributions.sum() == pytest.approx(one.value, abs=1e-10)


def test_a_model_that_averages_over_atoms_gives_the_energy_of_one():
    model, frames = random_model(), shaken(3)
    energies = maps.draw_map(model, frames, metrics=[], quiet=True).of("energy").values
    model.pooling = "mean"
    found = maps.draw_map(model, frames, metrics=[], quiet=True).of("energy").values
    assert found == pytest.approx(energies, abs=1e-10)


def test_errors_are_those_from_the_labels():
    model, frames = random_model(), shaken(4)
    exact = maps.draw_map(model, frames, metrics=[], quiet=True)
    for atoms, value in zip(frames, exact.of("energy").values, strict=True):
        labels = {"energy": value * len(atoms) + 0.9, "forces": np.zeros((len(atoms), 3))}
        atoms.calc = SinglePointCalculator(atoms, **labels)
    found = maps.draw_map(model, frames, metrics=[], quiet=True)
    assert found.of("energy-error").values == pytest.approx([100.0] * 4)  # 0.9 eV over 9 atoms
    assert all(value > 0 for value in found.of("force-error").values)
    frames[0].calc = None
    assert maps.draw_map(model, frames, metrics=[], quiet=True).of("energy-error").values[0] is None


def test_features_give_the_contributions_of_the_atoms():
    model, frames = random_model(), shaken(3)
    weight, bias = (part[0].double().detach().numpy() for part in model.potential.last_linear)
    rows = maps.features(model, frames, quiet=True)
    for own, atoms in zip(rows, frames, strict=True):
        graph = AtomGraph.from_atoms(atoms, model.cutoff)
        energy = float(Evaluator(model)(graph).energy[0])
        numbers = torch.from_numpy(atoms.numbers)
        scale, shift = model.scale[numbers].numpy(), model.shift[numbers].numpy()
        assert (scale * (own @ weight + bias) + shift).sum() == pytest.approx(energy, abs=1e-6)
    (alone,) = maps.features(model, frames[0], quiet=True)
    assert alone == pytest.approx(rows[0])


def test_atoms_have_points_of_their_own_and_elements_lie_apart():
    found = maps.draw_map(random_model(), shaken(5), level="atoms", metrics=[], quiet=True)
    points, elements = np.array(found.projections[0].points), np.array(found.of("element").values)
    assert len(points) == 45
    carbon, oxygen = points[elements == "C"], points[elements == "O"]
    assert np.linalg.norm(carbon.mean(axis=0) - oxygen.mean(axis=0)) > carbon.std(axis=0).max()


def test_sources_are_told_apart():
    named = {"cold": shaken(3), "hot": shaken(2)}
    found = maps.draw_map(random_model(), named, metrics=[], quiet=True)
    assert found.of("source").values == 3 * ["cold"] + 2 * ["hot"]
    assert found.of("frame").values == [0, 1, 2, 0, 1]


def test_a_map_is_read_back_as_written(tmp_path):
    found = maps.draw_map(random_model(), shaken(8), bootstraps=2, quiet=True)
    paths = found.write(tmp_path)
    again = maps.RepresentationMap.model_validate_json((tmp_path / "map.json").read_text())
    assert again == found
    assert {path.suffix for path in paths} == {".json", ".csv", ".png"}
    for panel in found.panels():
        axes = found.plot(panel=panel.key)
        assert axes.get_title()
        assert axes.get_xlabel()


@pytest.mark.slow  # numba compiles for half a minute
def test_umap_separates_what_is_apart():
    pytest.importorskip("umap", reason="pip install 'asecalc-ml[explain]'")
    named = {"ethanol": shaken(20), "ether": shaken(20, "CH3OCH3")}
    found = maps.draw_map(random_model(), named, projections="umap", neighbors=5, metrics=[], quiet=True)
    points, source = np.array(found.projections[0].points), np.array(found.of("source").values)
    first, second = points[source == "ethanol"], points[source == "ether"]
    gap = np.linalg.norm(first[:, None] - second[None], axis=2).min()
    nearest = [
        np.sort(np.linalg.norm(one[:, None] - one[None], axis=2), axis=1)[:, 1].max()
        for one in (first, second)
    ]
    assert gap > max(nearest)


@pytest.mark.slow  # importing umap takes as long
def test_umap_needs_more_points_than_neighbors():
    pytest.importorskip("umap", reason="pip install 'asecalc-ml[explain]'")
    with pytest.raises(AnalysisError, check=told(name="neighbors", remedy="pca")):
        maps.draw_map(random_model(), shaken(4), projections="umap", quiet=True)


# ----------------------------------------------------------------------------------------- fingerprints


@pytest.mark.parametrize("name", ["soap", "coulomb-matrix"])
def test_fingerprints_know_neither_place_nor_order(name):
    pytest.importorskip("dscribe", reason="pip install 'asecalc-ml[explain]'")
    atoms = shaken(1)[0]
    other = atoms[::-1]
    other.rotate(50, (3, 1, 2))
    first, second = fingerprints(name, [atoms, other], of_atoms=False)
    assert first == pytest.approx(second, rel=1e-6, abs=1e-6)


def test_morgan_tells_molecules_and_not_conformers():
    pytest.importorskip("rdkit", reason="pip install 'asecalc-ml[molecules]'")
    rows = fingerprints("morgan", [*shaken(2), molecule("CH3OCH3")], of_atoms=False)
    found = relative_distances(rows, "tanimoto")
    assert found[0] == 0
    bits = rows[[0, 2]].astype(bool)
    assert found[1] == pytest.approx(1 - (bits[0] & bits[1]).sum() / (bits[0] | bits[1]).sum())


def test_a_crystal_has_no_fingerprint_of_molecules():
    pytest.importorskip("dscribe", reason="pip install 'asecalc-ml[explain]'")
    pytest.importorskip("rdkit", reason="pip install 'asecalc-ml[molecules]'")
    silicon = bulk("Si", cubic=True)
    for name in ("coulomb-matrix", "morgan"):
        with pytest.raises(AnalysisError, check=told(value=name, remedy="soap")):
            fingerprints(name, [silicon], of_atoms=False)
    assert len(fingerprints("soap", [silicon], of_atoms=True)) == 8


# ------------------------------------------------------------------------------------------- bad input


def test_what_cannot_be_is_named():
    with pytest.raises(ConfigError, match="level: structures"):
        maps.draw_map(random_model(), shaken(4), representations="morgan", level="atoms")
    with pytest.raises(AnalysisError, check=told(value=2, allowed="3", remedy=True)):
        maps.draw_map(random_model(), shaken(2), quiet=True)
    with pytest.raises(AnalysisError, check=told(value="temperature", remedy=True)):
        maps.draw_map(random_model(), shaken(4), info="temperature", quiet=True)


def test_command(tmp_path):
    from ase.io import write

    file = tmp_path / "frames.xyz"
    write(file, shaken(5))
    arguments = [
        "map",
        "torchmdnet-ethanol",
        str(file),
        "--directory",
        str(tmp_path / "map"),
        "--bootstraps",
        "0",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "euclidean" in result.output
    assert (tmp_path / "map" / "map-features-pca-energy.png").stat().st_size > 5000
    twice = CliRunner().invoke(app, ["map", "torchmdnet-ethanol", f"{file},{file}"])
    assert twice.exit_code == 2
    assert "once" in twice.output
