"""Uncertainty from last-layer features: derivatives, Bayesian regression, symmetries, sizes, files."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from raising import told
from scipy.optimize import minimize
from sklearn.linear_model import BayesianRidge

from asecalc_ml import MLCalculator
from asecalc_ml.calculators.batches.predict import predict
from asecalc_ml.calculators.corrections import Corrected
from asecalc_ml.errors import DatasetError, ModelError
from asecalc_ml.graph.atom_graph import AtomGraph, collate
from asecalc_ml.graph.padding import with_ghost
from asecalc_ml.model.heads.build import build_heads
from asecalc_ml.model.heads.last_layer import LastLayerUncertainty, last_layer_features
from asecalc_ml.model.heads.values import values_of
from asecalc_ml.model.model import Model
from asecalc_ml.potentials.cgcnn import CGCNN
from asecalc_ml.potentials.mpnn import MPNN
from asecalc_ml.potentials.physnet import PhysNet
from asecalc_ml.potentials.schnetpack import SchNet
from asecalc_ml.potentials.training.calibration.last_layer import fit
from asecalc_ml.store.card import UncertaintyCard
from asecalc_ml.store.model_file import read_model, read_uncertainty, save_model
from asecalc_ml.store.registry import Registry
from asecalc_ml.targets import parse_targets
from asecalc_ml.testing.models import untrained_card, untrained_model

SCHNET = SchNet(n_atom_basis=8, n_interactions=1, n_rbf=8, cutoff_A=4.0)
PHYSNET = PhysNet(hidden_channels=6, n_rbf=8, n_layers=2, cutoff_A=4.0, coulomb_cutoff_A=6.0)
NAMES = ("CH3OH", "H2O", "CH4", "C2H6", "H2CO")


def model_of(options, targets="energy", seed=0) -> Model:
    """A model in float64 with random weights, and a scale that differs from element to element."""
    model = untrained_model(options, seed)
    quantities = [target.as_quantity() for target in parse_targets(targets)]
    if targets == "energy":
        return model
    heads = build_heads(quantities, model.potential)
    scale, shift = (
        table.repeat(len(heads), 1) if len(heads) > 1 else table for table in (model.scale, model.shift)
    )
    return Model(model.potential, scale, shift, heads=heads).set_dtype(torch.float64)


def inputs_of(model, structures):
    graphs = [AtomGraph.from_atoms(atoms, model.cutoff) for atoms in structures]
    return with_ghost(collate(graphs), model.cutoff, triplet_cutoff=model.triplet_cutoff)


def features_of(model, structures, name="energy") -> np.ndarray:
    with torch.no_grad():
        output, inputs = model.outputs(inputs_of(model, structures))
        return last_layer_features(model, output, inputs)[name][:-1].numpy()


def rattled(n_structures=60, seed=0):
    random, structures = np.random.default_rng(seed), []
    for k in range(n_structures):
        atoms = molecule(NAMES[k % len(NAMES)])
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        structures.append(atoms)
    return structures


def uncertainty_of(model, name="energy", ridge=1e-3) -> LastLayerUncertainty:
    features = features_of(model, rattled(), name)
    hessian = features.T @ features
    return LastLayerUncertainty({name: np.linalg.cholesky(hessian + ridge * np.eye(len(hessian)))})


def std_of(model, uncertainty, atoms, name="energy") -> float:
    graph = AtomGraph.from_atoms(atoms, model.cutoff)
    (values,) = values_of(model, [graph], uncertainty)
    return float(values[f"{name}_std"])


def registered(name, options=SCHNET, targets="energy", **fields):
    """A registered model with random weights and an uncertainty of its first quantity."""
    model = model_of(options, targets)
    card = untrained_card(name, options, model, molecule("CH3OH"), **fields)
    Registry().add_model(model, card)
    quantity = model.quantities[0].name
    uncertainty = uncertainty_of(model, quantity)
    n_features = len(uncertainty.factors[quantity])
    stated = UncertaintyCard(
        data="made up", n_train=60, n_validation=20, n_features=n_features, alpha=1.0, varsigma=0.03,
        rmse=1.0, rms_std=1.0, miscalibration_area=0.1, spearman=None,
    )  # fmt: skip
    card = card.model_copy(update={"uncertainty": {quantity: stated}})
    Registry().with_uncertainty(name, card, uncertainty)
    return model


# ------------------------------------------------------------------------------------------------- features


@pytest.mark.parametrize(
    ("options", "targets"),
    [
        (SCHNET, "energy"),
        (SCHNET, "homo"),
        (SCHNET, "zpve"),
        (SCHNET, ["homo", "zpve"]),
        (SCHNET, {"gap": {"pooling": "softmax"}}),
        (MPNN(hidden_channels=8, readout="set2set"), "homo"),
        (MPNN(hidden_channels=8, readout="set2set"), ["homo", "zpve"]),
        (CGCNN(hidden_channels=8, n_layers=1, readout="crystal"), "homo"),
        (PHYSNET, "energy"),
    ],
)  # fmt: skip
def test_features_are_what_a_value_is_linear_in(options, targets):
    """A change of the last layer by δ changes each value by F · δ, exactly."""
    model, structures = model_of(options, targets), rattled(5)
    inputs = inputs_of(model, structures)
    before = model.by_name(model(inputs).systems)
    output, cast = model.outputs(inputs)
    features = last_layer_features(model, output, cast)
    for place, head in enumerate(model.quantity_heads):
        name = head.quantity.name
        weight, bias = head.last_linear(model.potential)
        rows = features[name].detach()
        shifts = model.shift.view(len(model.heads), -1)[place][inputs.atomic_numbers]
        linear = rows @ torch.cat([weight[0], bias]).double() + head.pool(shifts, inputs)
        if output.electrostatics is not None:
            linear = linear + head.pool(output.electrostatics, inputs)
        assert before[name].detach()[:-1].numpy() == pytest.approx(linear.detach()[:-1].numpy(), abs=1e-9)


def test_features_are_derivatives():
    model = model_of(SCHNET)
    weight, bias = model.potential.last_linear
    value = model(inputs_of(model, rattled(1))).systems[0]
    gradients = torch.autograd.grad(value, [weight, bias])
    expected = torch.cat([gradient.ravel() for gradient in gradients]).numpy()
    assert features_of(model, rattled(1))[0] == pytest.approx(expected, rel=1e-10)


# -------------------------------------------------------------------------------------- Bayesian regression


def test_it_is_bayesian_ridge_regression():
    """Labels that are linear in the features, with scikit-learn's noise and prior."""
    random, model = np.random.default_rng(0), model_of(SCHNET)
    features = features_of(model, rattled(200))
    labels = features @ random.normal(size=features.shape[1]) + random.normal(scale=0.1, size=200)
    ridge = BayesianRidge(fit_intercept=False).fit(features, labels)
    # variance of a prediction: 1/α + xᵀ (λ 1 + α XᵀX)⁻¹ x
    penalty = ridge.lambda_ / ridge.alpha_
    hessian = features.T @ features
    factor = np.linalg.cholesky(ridge.alpha_ * (hessian + penalty * np.eye(len(hessian))))
    uncertainty = LastLayerUncertainty({"energy": factor})
    for atoms in rattled(10, seed=1):
        x = features_of(model, [atoms])
        _, stated = ridge.predict(x, return_std=True)
        expected = np.sqrt(stated[0] ** 2 - 1 / ridge.alpha_)
        assert std_of(model, uncertainty, atoms) == pytest.approx(expected, rel=1e-6)


def test_alpha_and_varsigma_are_most_likely():
    random = np.random.default_rng(0)
    features, held_out = random.normal(size=(100, 5)), random.normal(size=(400, 5))
    features[:, 3:] *= 0.02
    hessian = features.T @ features
    inverse = np.linalg.inv(hessian + 0.5 * np.eye(5))
    true = np.sqrt(4.0 * np.einsum("ni,ij,nj->n", held_out, inverse, held_out))
    errors = random.normal(scale=true)

    def cost(logarithms):
        alpha, ridge = np.exp(logarithms)
        inverse = np.linalg.inv(hessian + ridge * np.eye(5))
        variances = alpha**2 * np.einsum("ni,ij,nj->n", held_out, inverse, held_out)
        return (np.log(variances) + errors**2 / variances).mean()

    best = minimize(cost, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12})
    fitted = fit(hessian, held_out, errors)
    assert cost(np.log([fitted.alpha, fitted.varsigma**2])) == pytest.approx(best.fun, abs=1e-3)
    # α in closed form, for this ς: no scale is more likely
    assert np.mean((errors / fitted.stds) ** 2) == pytest.approx(1.0)
    assert np.median(np.abs(fitted.stds / true - 1)) < 0.05
    # the Cholesky factor gives the same standard deviations
    stds = np.linalg.norm(np.linalg.solve(fitted.factor, held_out.T), axis=0)
    assert stds == pytest.approx(fitted.stds, rel=1e-9)


@pytest.mark.parametrize("spoil", ["errors", "features", "hessian"])
def test_nothing_to_fit_to_is_refused(spoil):
    given = {"hessian": np.eye(2), "features": np.ones((3, 2)), "errors": np.ones(3)}
    given[spoil] = given[spoil] * (0 if spoil != "features" else np.nan)
    with pytest.raises(DatasetError, check=told(remedy="labels")):
        fit(**given)


# ------------------------------------------------------------------------------------- symmetries and sizes


def test_rotations_orders_and_translations_change_nothing():
    model = model_of(SCHNET)
    uncertainty, atoms = uncertainty_of(model), rattled(1, seed=3)[0]
    expected = std_of(model, uncertainty, atoms)
    turned = atoms.copy()
    turned.rotate(77, (1, 2, 3))
    turned.translate((5, -3, 1))
    assert std_of(model, uncertainty, turned) == pytest.approx(expected, rel=1e-9)
    reordered = atoms[np.random.default_rng(0).permutation(6)]
    assert std_of(model, uncertainty, reordered) == pytest.approx(expected)


def test_two_copies_far_apart():
    """The errors of two equal molecules are the same: a sum is twice as uncertain, a mean as much as one."""
    atoms = rattled(1, seed=3)[0]
    far = atoms.copy()
    far.translate((50, 0, 0))
    for targets, factor in (("energy", 2), ("zpve", 2), ("homo", 1), ({"gap": {"pooling": "softmax"}}, 1)):
        model = model_of(SCHNET, targets)
        name = model.quantities[0].name
        uncertainty = uncertainty_of(model, name)
        alone = std_of(model, uncertainty, atoms, name)
        assert std_of(model, uncertainty, atoms + far, name) == pytest.approx(factor * alone, rel=1e-9)


def test_a_supercell_is_as_uncertain_per_atom_and_a_batch_as_its_members(monkeypatch):
    carbon = bulk("C", cubic=True)
    carbon.rattle(0.02, seed=0)
    registered("m", elements=["C", "H", "O"])
    calculator = MLCalculator("m", dtype="float64")
    structures = [carbon, carbon * (2, 1, 1), molecule("CH4"), molecule("H2O")]
    alone = [calculator.get_property("energy_std", atoms) for atoms in structures]
    assert alone[1] == pytest.approx(2 * alone[0], rel=1e-9)
    together = calculator.calculate_many(structures, ["energy_std"])
    assert [results["energy_std"] for results in together] == pytest.approx(alone, rel=1e-9)
    assert all("energy_std" not in results for results in calculator.calculate_many(structures))


# ------------------------------------------------------------------------------------------- the calculator


def test_it_is_computed_where_it_is_asked_for(monkeypatch):
    model = registered("m")
    asked, plain = [], LastLayerUncertainty.deviations
    monkeypatch.setattr(LastLayerUncertainty, "deviations", lambda *a: asked.append(1) or plain(*a))
    calculator, atoms = MLCalculator("m", dtype="float64"), rattled(1)[0]
    atoms.calc = calculator
    atoms.get_forces()
    assert (asked, "energy_std" in calculator.results) == ([], False)
    expected = std_of(model, read_uncertainty(Registry().find("m").path), atoms)
    for _ in range(2):
        assert calculator.get_property("energy_std", atoms) == pytest.approx(expected, rel=1e-9)
    atoms.get_forces()
    assert len(asked) == 2  # one of them is the test's own
    atoms.positions[0, 0] += 0.1
    atoms.get_potential_energy()
    assert "energy_std" not in calculator.results


def test_other_quantities_come_with_it():
    model = registered("m", targets=["homo", "zpve"])
    calculator = MLCalculator("m", dtype="float64")
    atoms = rattled(1)[0]
    calculator.get_property("homo", atoms)
    expected = std_of(model, read_uncertainty(Registry().find("m").path), atoms, "homo")
    assert calculator.results["homo_std"] == pytest.approx(expected, rel=1e-9)
    assert "zpve_std" not in calculator.results
    columns = predict(calculator, {"a": atoms, "b": molecule("H2O")}).columns
    assert list(columns) == ["homo (eV)", "homo std (eV)", "zpve (eV)"]


def test_predictions_of_energies_have_a_column():
    registered("m")
    calculator, structures = MLCalculator("m", dtype="float64"), rattled(4)
    columns = predict(calculator, {f"{k}": atoms for k, atoms in enumerate(structures)}).columns
    expected = [calculator.get_property("energy_std", atoms) for atoms in structures]
    assert columns["energy std (eV)"] == pytest.approx(expected, rel=1e-9)
    (alone,) = predict(calculator, {"one": structures[0]}).columns["energy std (eV)"]
    assert alone == pytest.approx(expected[0], rel=1e-9)


def test_energies_without_a_common_zero_have_none():
    registered("m", energies_degenerate=True, compositions=["CH4O"])
    calculator = MLCalculator("m")
    assert calculator.get_property("energy_std", molecule("CH3OH")) > 0
    with pytest.raises(PropertyNotImplementedError, match="energies of CH4 have no zero"):
        calculator.get_property("energy_std", molecule("CH4"))
    with pytest.warns(UserWarning, match="have no zero"):
        columns = predict(calculator, {"a": molecule("CH3OH"), "b": molecule("CH4")}).columns
    assert np.isnan(columns["energy std (eV)"]).tolist() == [False, True]


def test_analytic_terms_have_no_uncertainty():
    registered("m")
    atoms = rattled(1)[0]
    expected = MLCalculator("m").get_property("energy_std", atoms)
    corrected = Corrected("m", ["zbl"])
    assert corrected.get_property("energy_std", atoms) == pytest.approx(expected)
    (results,) = corrected.calculate_many([atoms], ["energy_std"])
    assert results["energy_std"] == pytest.approx(expected, rel=1e-5)


def test_a_model_without_says_how_to_get_it():
    model = model_of(SCHNET)
    Registry().add_model(model, untrained_card("plain", SCHNET, model, molecule("CH3OH")))
    with pytest.raises(PropertyNotImplementedError, match="asecalc-ml calibrate plain"):
        MLCalculator("plain").get_property("energy_std", molecule("CH3OH"))
    with pytest.raises(PropertyNotImplementedError, match=r"scalars alone .*Use a committee"):
        MLCalculator("plain").get_property("forces_std", molecule("CH3OH"))
    model = model_of(SCHNET, "dipole")
    Registry().add_model(model, untrained_card("vector", SCHNET, model, molecule("CH3OH")))
    with pytest.raises(PropertyNotImplementedError, match=r"scalars alone .*Use a committee"):
        MLCalculator("vector").get_property("dipole_std", molecule("CH3OH"))


# ----------------------------------------------------------------------------------------------- the file


def test_a_note_keeps_it_and_weights_are_read_without_it():
    model = registered("m")
    factor = read_uncertainty(Registry().find("m").path).factors["energy"]
    entry = Registry().note("m", "Stable for 1 ps.")
    assert np.array_equal(read_uncertainty(entry.path).factors["energy"], factor)
    again = read_model(entry.path)[0].state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "packed",
    [np.ones(4), np.ones(3, dtype=np.float32), np.array([1.0, 2.0, -1.0]), np.array([1.0, np.nan, 1.0])],
)
def test_a_damaged_one_is_refused(packed, tmp_path):
    class Damaged:
        def arrays(self):
            return {"energy": packed}

    model = model_of(SCHNET)
    path = tmp_path / "m.safetensors"
    save_model(path, model, untrained_card("m", SCHNET, model, molecule("CH3OH")), None, Damaged())
    with pytest.raises(ModelError, check=told(name=str(path), remedy="copy it again")):
        read_uncertainty(path)


def test_a_single_atom_and_no_structure_have_values():
    registered("m")
    assert MLCalculator("m").get_property("energy_std", Atoms("H")) > 0
    assert MLCalculator("m").calculate_many([], ["energy_std"]) == []
