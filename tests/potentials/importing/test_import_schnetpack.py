"""Models of schnetpack: the energies are its own, and what cannot be read is told at once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from raising import told
from typer.testing import CliRunner

from asecalc_ml import MLCalculator, plugins
from asecalc_ml.cli.ml import app
from asecalc_ml.errors import AsecalcError
from asecalc_ml.potentials.importing import SchNetPackImport
from asecalc_ml.store.registry import Registry

STATED = {"energy_unit": "eV", "length_unit": "Angstrom", "elements": ["H", "C", "N", "O"]}
CUTOFF = 4.2
WIDTH = 16

CASES = {
    "SchNet": {},
    "SchNet, filters of another width": {"n_filters": 12, "trainable": True, "activation": "silu"},
    "SchNet with Bessel functions": {"basis": "BesselRBF"},
    "PaiNN": {},
    "PaiNN, shared interactions": {"shared_interactions": True, "activation": "tanh"},
    "SO3net": {"lmax": 2},
}

each_case = pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            marks=pytest.mark.skipif(
                case.split()[0].strip(",").lower() not in plugins.names("architectures"),
                reason="this architecture is not offered",
            ),
        )
        for case in CASES
    ],
)


@pytest.fixture(scope="session")
def spk():
    """schnetpack as its users have it."""
    from asecalc_ml.potentials.schnetpack.upstream import whole_package

    return whole_package()


@pytest.fixture
def make(spk):
    """A model of schnetpack with random weights, offsets included."""

    def made(case="SchNet", length=1.0, offsets=None, mode="sum", postprocessors=None, **changes):
        given = {**CASES[case], **changes}
        basis = getattr(spk.nn, given.pop("basis", "GaussianRBF"))
        shape = {"n_rbf": 8, "cutoff": CUTOFF / length}
        if given.pop("trainable", False):
            shape["trainable"] = True
        if "activation" in given:
            given["activation"] = getattr(torch.nn.functional, given["activation"])
        cutoff_fn = given.pop("cutoff_fn", spk.nn.CosineCutoff)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            representation = getattr(spk.representation, case.split()[0].strip(","))(
                n_atom_basis=WIDTH,
                n_interactions=2,
                radial_basis=basis(**shape),
                cutoff_fn=cutoff_fn(CUTOFF / length),
                **given,
            )
            model = spk.model.NeuralNetworkPotential(
                representation=representation,
                input_modules=[spk.atomistic.PairwiseDistances()],
                output_modules=[
                    spk.atomistic.Atomwise(n_in=WIDTH, output_key="energy", aggregation_mode=mode),
                    spk.atomistic.Forces(),
                ],
                postprocessors=[spk.transform.CastTo64(), *(offsets or postprocessors or [])],
            )
            for parameter in model.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
        return model

    return made


@pytest.fixture
def offsets(spk):
    """Offsets of the training data, as its data module would have set them."""

    def made(**options):
        given = {"property": "energy", "add_mean": True, "add_atomrefs": True, **options}
        module = spk.transform.AddOffsets(**given)
        module.mean, module.atomref = torch.tensor([-3.7]), torch.linspace(-2, 3, 100) ** 3
        return [module]

    return made


@pytest.fixture
def save(spk, tmp_path):
    """A training directory with the file that schnetpack's own task writes."""

    def saved(model) -> Path:
        task = spk.AtomisticTask(model, outputs=[], optimizer_args={"lr": 1e-3})
        directory = tmp_path / "training"
        directory.mkdir(exist_ok=True)
        task.save_model(str(directory / "best_model"), do_postprocessing=True)
        return directory

    return saved


def molecules(names=("CH3CH2OH", "H2O", "C6H6", "CH3CONH2", "H2")) -> list[Atoms]:
    structures = [molecule(name) for name in names]
    for atoms in structures:
        atoms.rattle(0.05, seed=0)
    return structures


def upstream_results(model, atoms: Atoms, length: float = 1.0) -> tuple[float, np.ndarray]:
    """Energy and forces in the model's units, with all pairs within the cutoff."""
    dtype = next(model.parameters()).dtype
    distances = atoms.get_all_distances() / length
    pairs = np.argwhere((distances < CUTOFF / length) & (distances > 0))
    inputs = {
        "_atomic_numbers": torch.tensor(atoms.numbers),
        "_positions": torch.tensor(atoms.positions / length, dtype=dtype),
        "_idx_i": torch.tensor(pairs[:, 0]),
        "_idx_j": torch.tensor(pairs[:, 1]),
        "_offsets": torch.zeros(len(pairs), 3, dtype=dtype),
        "_idx_m": torch.zeros(len(atoms), dtype=torch.int64),
        "_n_atoms": torch.tensor([len(atoms)]),
    }
    found = model(inputs)
    return found["energy"].item(), found["forces"].detach().numpy()


def check_equal(model, energy_eV=1.0, length_A=1.0, tolerance=1e-9) -> None:
    for atoms in molecules():
        energy, forces = upstream_results(model, atoms, length_A)
        atoms.calc = MLCalculator("imported", compile="never")
        assert np.abs(forces).max() > 1e-3
        assert atoms.get_potential_energy() == pytest.approx(energy * energy_eV, abs=tolerance)
        assert atoms.get_forces() == pytest.approx(forces * energy_eV / length_A, abs=tolerance)


def import_model(directory: Path, trust: bool = True, replace: bool = False, **options):
    return SchNetPackImport(**{**STATED, **options}).run(directory, "imported", trust=trust, replace=replace)


def check_refused(check, directory: Path, **options) -> None:
    """The import is refused with an error that passes the check, and nothing is registered."""
    with pytest.raises(AsecalcError, check=check):
        import_model(directory, **options)
    assert "imported" not in {entry.name for entry in Registry().list()}


# ------------------------------------------------------------------------------------ energies and forces


@each_case
def test_energies_and_forces_are_upstreams(make, offsets, save, case):
    """SO3net's tables are in single precision upstream and exact here, which shows in the tenth digit."""
    model = make(case, offsets=offsets()).double()
    import_model(save(model))
    check_equal(model, tolerance=1e-7 if case == "SO3net" else 1e-9)


def test_single_precision_is_equal_to_rounding(make, offsets, save):
    model = make("PaiNN", offsets=offsets())
    assert import_model(save(model)).card.dtype == "float32"
    check_equal(model, tolerance=1e-4)


@pytest.mark.parametrize("case", ["SchNet, filters of another width", "PaiNN"])
@pytest.mark.parametrize("unit", ["Bohr", "nm"])
def test_units_of_the_training_data(make, offsets, save, case, unit):
    """Cutoff, centres and widths are lengths too."""
    length_A = {"Bohr": units.Bohr, "nm": 10.0}[unit]
    model = make(case, length_A, offsets=offsets()).double()
    import_model(save(model), energy_unit="kcal/mol", length_unit=unit)
    check_equal(model, units.kcal / units.mol, length_A, tolerance=1e-8)


def test_bessel_functions_have_a_unit(make, save):
    directory = save(make("SchNet with Bessel functions"))
    check_refused(told(name="BesselRBF", allowed=["Angstrom"]), directory, length_unit="Bohr")


def test_mean_over_atoms(make, offsets, save):
    model = make(mode="avg", offsets=offsets(is_extensive=False)).double()
    assert import_model(save(model)).card.quantities[0].pooling == "mean"
    check_equal(model)


def test_mean_alone_and_references_alone(make, offsets, save):
    for kept in ("add_mean", "add_atomrefs"):
        both = {"add_mean": False, "add_atomrefs": False}
        model = make(offsets=offsets(**{**both, kept: True})).double()
        import_model(save(model), replace=True)
        check_equal(model)


def test_readout_of_the_energy_among_others(spk, make, save):
    """The energy is what forces are derived from, wherever it stands."""
    model = make().double()
    other = spk.atomistic.Atomwise(n_in=WIDTH, output_key="gap").double()
    model.output_modules.insert(0, other)
    model.collect_outputs()
    import_model(save(model))
    check_equal(model)


def test_output_is_named_where_there_are_several(spk, make, save):
    model = make().double()
    expected = model.output_modules[0]
    model.output_modules = torch.nn.ModuleList(
        [spk.atomistic.Atomwise(n_in=WIDTH, output_key="gap").double(), expected]
    )
    directory = save(model)
    check_refused(told(allowed=["gap", "energy"], remedy="--output"), directory)
    check_refused(told(value="enrgy", allowed=["energy"], remedy="--output"), directory, output="enrgy")
    import_model(directory, output="energy")
    model.output_modules.append(spk.atomistic.Forces())
    model.collect_derivatives()
    model.collect_outputs()
    check_equal(model)


# ---------------------------------------------------------------------------------------------------- trust


def test_needs_trust(make, save):
    check_refused(told(remedy="--trust"), save(make()), trust=False)


def test_a_model_file_itself(make, save):
    model = make().double()
    import_model(save(model) / "best_model")
    check_equal(model)


def test_a_whole_task(spk, make, save):
    model = make().double()
    directory = save(model)
    torch.save(
        spk.AtomisticTask(model, outputs=[], optimizer_args={"lr": 1e-3}), directory / "best_model.task"
    )
    import_model(directory / "best_model.task")
    check_equal(model)


# ------------------------------------------------------------------------------------------ stated units

CONFIG = """
data:
  distance_unit: Ang
  property_units:
    energy: kcal/mol
    forces: kcal/mol/Ang
"""


def test_stated_units_are_those_of_the_training(make, save):
    directory = save(make())
    (directory / "config.yaml").write_text(CONFIG)
    check_refused(told(name="--energy-unit", value="eV", allowed=["kcal/mol"], remedy=True), directory)
    length = told(name="--length-unit", value="nm", allowed=["Angstrom"])
    check_refused(length, directory, energy_unit="kcal/mol", length_unit="nm")
    import_model(directory, energy_unit="kcal/mol")


def test_units_that_are_not_written_down(make, save):
    directory = save(make())
    (directory / "config.yaml").write_text(
        "data:\n  distance_unit: ${globals.unit}\n  property_units: null\n"
    )
    import_model(directory)


# ------------------------------------------------------------------------------------------------ refusals


def test_directories_without_a_model(tmp_path):
    check_refused(told(name="absent", remedy=True), tmp_path / "absent")
    check_refused(told(name=str(tmp_path), remedy="model file"), tmp_path)
    (tmp_path / "best_model").write_text("no model")
    check_refused(told(name="best_model", remedy="copy"), tmp_path)
    torch.save({"a": 1}, tmp_path / "best_model")
    check_refused(told(name="best_model", allowed=["NeuralNetworkPotential"], remedy="2.x"), tmp_path)


def test_truncated_file(make, save):
    file = save(make()) / "best_model"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    check_refused(told(name=str(file), remedy="copy"), file)


def test_parts_that_are_not_offered_are_named(spk, make, offsets, save):
    def with_module(place: str, module):
        model = make()
        getattr(model, place).append(module)
        return model

    refused = {
        ("cutoff function", "MollifierCutoff"): make(cutoff_fn=spk.nn.MollifierCutoff),
        ("radial basis", "GaussianRBFCentered"): make(basis="GaussianRBFCentered"),
        ("activation function", "relu"): make(activation="relu"),
        ("epsilon", 1e-4): make("PaiNN", epsilon=1e-4),
        ("shared_filters", True): make("PaiNN", shared_filters=True),
        ("is_extensive", False): make(offsets=offsets(is_extensive=False)),
        ("postprocessor", "ScaleProperty"): make(postprocessors=[spk.transform.ScaleProperty("energy")]),
        ("output module", "Aggregation"): with_module(
            "output_modules", spk.atomistic.Aggregation(["energy"], "total")
        ),
        ("input module", "StaticExternalFields"): with_module(
            "input_modules", spk.atomistic.StaticExternalFields()
        ),
        ("representation", "FieldSchNet"): spk.model.NeuralNetworkPotential(
            spk.representation.FieldSchNet(
                8, 1, spk.nn.GaussianRBF(4, 4.0), [], cutoff_fn=spk.nn.CosineCutoff(4.0)
            )
        ),
    }
    for (name, value), model in refused.items():
        check_refused(told(name=name, value=value), save(model))


def test_readout_of_another_shape_is_told_at_once(spk, make, save):
    model = make()
    model.output_modules[0] = spk.atomistic.Atomwise(n_in=WIDTH, n_hidden=5, n_layers=3, output_key="energy")
    check_refused(told(name="weights", value=True), save(model))


# --------------------------------------------------------------------------------------- the card, the CLI


def run(*arguments) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, done.output


def test_command(make, save):
    directory = save(make("PaiNN"))
    stated = ("--energy-unit", "eV", "--length-unit", "Angstrom", "--elements", "H", "C", "O")
    status, output = run("import", "schnetpack", directory, "imported", *stated)
    assert status == 2
    assert "--trust" in output
    status, output = run("import", "schnetpack", directory, "imported", "--trust", *stated)
    assert status == 0, output
    status, output = run("import", "schnetpack", directory, "imported", "--trust", *stated)
    assert status == 2
    assert "--replace" in output
    card = Registry().find("imported").card
    assert (card.architecture, card.cutoff_A) == ("painn", pytest.approx(CUTOFF, rel=1e-6))
    assert run("models", "show", "imported")[0] == 0
    assert run("models", "cite", "imported")[0] == 0


@pytest.mark.parametrize("missing", ["energy_unit", "length_unit", "elements"])
def test_what_no_file_says_has_no_default(missing, tmp_path):
    stated = {key: value for key, value in STATED.items() if key != missing}
    with pytest.raises(ValueError, match=missing):
        SchNetPackImport(**stated)
