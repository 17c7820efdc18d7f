"""The models that ship: small, what their cards say, and as good as they say."""

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.calculator import all_changes

from asecalc_ml import MLCalculator
from asecalc_ml.calculators import make_calculator
from asecalc_ml.errors import StructureError
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.potentials.datasets import RMD17
from asecalc_ml.potentials.torchmdnet import EquivariantTransformer
from asecalc_ml.potentials.training.evaluate import evaluate_model
from asecalc_ml.registry import SHIPPED, Registry
from asecalc_ml.statistics import linear_drift
from asecalc_ml.structures import load_structure

NAMES = ("torchmdnet-ethanol", "torchmdnet-ethanol-xtb")


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.mark.smoke
def test_is_found_and_small(name):
    entry = Registry().find(name)
    assert entry.path.parent == SHIPPED
    assert entry.path.stat().st_size <= 2_000_000


def test_all_together_stay_within_their_budget():
    assert sum(path.stat().st_size for path in SHIPPED.glob("*")) <= 25_000_000


@pytest.mark.smoke
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reproduces_its_golden_values(name, dtype):
    MLCalculator(name, dtype=dtype)  # refuses a model that does not


def test_says_where_it_comes_from(name):
    card = Registry().find(name).card
    assert set(card.hyperparameters) == set(EquivariantTransformer.model_fields)
    assert card.dataset.licence
    assert card.dataset.citation
    assert card.dataset.level_of_theory
    assert card.energies_degenerate
    assert card.metrics.n_frames == 1000
    assert card.metrics.forces_mae_meV_A <= 12


def test_errors_on_rmd17_are_those_of_the_card(shared_data):
    data = RMD17(format="rmd17", path=shared_data / "rmd17" / "rmd17_ethanol_test_01.npz", frames="::10")
    evaluation = evaluate_model("torchmdnet-ethanol", data)
    assert evaluation.metrics.forces_mae_meV_A == pytest.approx(
        evaluation.card_metrics.forces_mae_meV_A, rel=0.1
    )
    assert evaluation.metrics.forces_mae_meV_A <= 12


def thermal_frames(n_frames: int) -> list:
    """Ethanol along Langevin dynamics of the model, at 300 K."""
    from ase import units
    from ase.md.langevin import Langevin

    from asecalc_ml.md_protocols.temperature import set_thermal_momenta

    atoms, rng, frames = load_structure("ethanol"), np.random.default_rng(0), []
    atoms.calc = MLCalculator("torchmdnet-ethanol-xtb")
    set_thermal_momenta(atoms, 300.0, rng, linear=False)
    dynamics = Langevin(
        atoms, 0.5 * units.fs, temperature_K=300, friction=0.02 / units.fs, fixcm=False, rng=rng
    )
    for _ in range(n_frames):
        dynamics.run(100)
        frames.append(atoms.copy())
    return frames


def test_forces_are_those_of_the_method_it_was_trained_on():
    """GFN2-xTB itself, on frames that the model's own dynamics lead to."""
    pytest.importorskip("tblite", reason="the reference is GFN2-xTB: pip install 'asecalc-ml[reference]'")
    model, reference = MLCalculator("torchmdnet-ethanol-xtb"), make_calculator("gfn2-xtb")
    errors = []
    for atoms in thermal_frames(8):
        forces = []
        for calculator in (model, reference):
            calculator.calculate(atoms, ["energy", "forces"], all_changes)
            forces.append(calculator.results["forces"])
        errors.append(np.abs(forces[0] - forces[1]).mean())
    assert np.mean(errors) < 0.006  # eV/Å


def test_the_total_energy_is_conserved(name, tmp_path):
    options = NVE(structure="ethanol", calculator=name, steps=2000, equilibration_ps=0.2)
    thermo = options.run(directory=tmp_path / "run", quiet=True).thermo
    slope, error = linear_drift(thermo["time_fs"] / 1000, thermo["total_eV"] * 1000 / 9)
    assert abs(slope) < 0.1 + 2 * (error or 0.0)  # meV per atom and ps


def test_an_untrained_element_is_named(name):
    atoms = molecule("CH3Cl")
    atoms.calc = MLCalculator(name)
    with pytest.raises(StructureError, match="Cl"):
        atoms.get_potential_energy()
