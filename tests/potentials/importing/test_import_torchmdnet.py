"""Checkpoints of torchmd-net: the energies are its own, and what cannot be read is told at once."""

import argparse
import copy
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.io import write
from typer.testing import CliRunner

from asecalc_ml import MLCalculator
from asecalc_ml.analysis.report.report import model_rows
from asecalc_ml.cli.ml import app
from asecalc_ml.errors import AsecalcError, ModelError
from asecalc_ml.potentials.importing import TorchMDNetImport
from asecalc_ml.store.registry import Registry

ETHANOL = {"composition": "C2H6O", "structure": "ethanol"}
STATED = {"energy_unit": "eV", "length_unit": "Angstrom", "elements": ["H", "C", "N", "O"]}
MODELS = ("equivariant-transformer", "tensornet", "graph-network")

SMALL = {
    "embedding_dimension": 16,
    "num_layers": 2,
    "num_rbf": 8,
    "num_heads": 2,
    "neighbor_embedding": True,
    "cutoff_upper": 4.0,
    "max_num_neighbors": 64,
    "derivative": True,
    "precision": 64,
    "max_z": 20,
}

CASES = {
    "equivariant-transformer": {"vector_cutoff": True},
    "equivariant-transformer of the paper": {"vector_cutoff": False},
    "equivariant-transformer, other options": {
        "num_heads": 4,
        "rbf_type": "gauss",
        "trainable_rbf": True,
        "neighbor_embedding": False,
        "distance_influence": "keys",
        "activation": "ssp",
        "attn_activation": "tanh",
    },
    "tensornet": {},
    "tensornet, many types": {"max_z": 128, "rbf_type": "gauss"},
    "graph-network": {},
    "graph-network, other options": {"neighbor_embedding": False, "trainable_rbf": True},
}

each_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="module")
def upstream():
    """torchmd-net as its users have it, but with its TensorNet in Python, which holds float64."""
    pytest.importorskip("warp", reason="torchmd-net's own neighbor search needs warp: pip install warp-lang")
    import asecalc_ml.potentials.torchmdnet.upstream as ours

    ours.layers()
    from torchmdnet import module, priors
    from torchmdnet.models import model, tensornet
    from torchmdnet.scripts import train

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensornet, "OPT", False)
        for name in ("compose_tensor", "decompose_tensor", "tensor_matmul_o3", "tensor_matmul_so3"):
            patch.setattr(tensornet, name, getattr(tensornet, f"_{name}"))
        yield argparse.Namespace(
            LNNP=module.LNNP,
            Atomref=priors.Atomref,
            load_model=model.load_model,
            defaults=train.get_argparse().parse_args([]),
        )


@pytest.fixture
def write_checkpoint(upstream, tmp_path):
    """A checkpoint as a training writes it, by torchmd-net's own module and Lightning, random weights."""
    import lightning.pytorch as lightning

    def make(case: str = "graph-network", mean: float = 0.0, std: float = 1.0, prior=None, **changes) -> Path:
        name = next(name for name in MODELS if case.startswith(name))
        arguments = copy.copy(upstream.defaults)
        vars(arguments).update({**SMALL, "model": name, **CASES[case], **changes})
        if prior is not None:
            arguments.prior_model = [type(prior).__name__]
            arguments.prior_args = [prior.get_init_args()]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            priors = None if prior is None else [prior]
            module = upstream.LNNP(
                arguments, prior_model=priors, mean=torch.tensor(mean), std=torch.tensor(std)
            )
            for parameter in module.model.representation_model.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
            for parameter in module.model.output_model.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
        trainer = lightning.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.strategy.connect(module)
        trainer.save_checkpoint(tmp_path / "upstream.ckpt")
        return tmp_path / "upstream.ckpt"

    return make


@pytest.fixture
def atomref(upstream):
    """A prior with an energy for every element."""
    prior = upstream.Atomref(max_z=20)
    prior.initial_atomref[:] = torch.linspace(-2, 3, 20)[:, None] ** 3
    prior.reset_parameters()
    return prior


def change(file: Path, **changes) -> Path:
    """The same checkpoint with other hyper-parameters; those that are None are taken out."""
    checkpoint = torch.load(file, weights_only=True)
    arguments = checkpoint["hyper_parameters"] | changes
    checkpoint["hyper_parameters"] = {
        key: value for key, value in arguments.items() if key not in _out(changes)
    }
    torch.save(checkpoint, file)
    return file


def _out(changes: dict) -> set[str]:
    return {key for key, value in changes.items() if value is None}


def molecules(names=("CH3CH2OH", "H2O", "C6H6", "CH3CONH2", "H2")) -> list[Atoms]:
    structures = [molecule(name) for name in names]
    for atoms in structures:
        atoms.rattle(0.05, seed=0)
    return structures


def upstream_results(model, atoms: Atoms, length: float = 1.0) -> tuple[float, np.ndarray]:
    """Energy and forces in the checkpoint's units, for positions in these units."""
    positions = torch.tensor(atoms.positions / length, dtype=model.mean.dtype)
    charge = torch.tensor([atoms.info.get("charge", 0)], dtype=positions.dtype)
    energy, forces = model(torch.tensor(atoms.numbers), positions, q=charge)
    return energy.item(), forces.detach().numpy()


def calculate(name: str, atoms: Atoms) -> tuple[float, np.ndarray]:
    atoms.calc = MLCalculator(name, compile="never")
    return atoms.get_potential_energy(), atoms.get_forces()


def check_equal(name: str, model, structures, energy_eV=1.0, length_A=1.0, tolerance=1e-9) -> None:
    for atoms in structures:
        energy, forces = upstream_results(model, atoms, length_A)
        found_energy, found_forces = calculate(name, atoms)
        assert np.abs(forces).max() > 1e-3
        assert found_energy == pytest.approx(energy * energy_eV, abs=tolerance)
        assert found_forces == pytest.approx(forces * energy_eV / length_A, abs=tolerance)


def import_model(file: Path, name: str = "imported", trust: bool = False, replace: bool = False, **options):
    return TorchMDNetImport(**{**STATED, **options}).run(file, name, trust=trust, replace=replace)


def refusal(file: Path, **options) -> str:
    """What is said when the import is refused; nothing is registered."""
    with pytest.raises(AsecalcError) as caught:
        import_model(file, **options)
    assert "imported" not in {entry.name for entry in Registry().list()}
    return str(caught.value)


# ------------------------------------------------------------------------------------ energies and forces


@each_case
def test_energies_and_forces_are_upstreams(upstream, write_checkpoint, atomref, case):
    file = write_checkpoint(case, std=1.7, prior=atomref)
    import_model(file)
    check_equal("imported", upstream.load_model(str(file)), molecules())


def test_single_precision_is_equal_to_rounding(upstream, write_checkpoint):
    file = write_checkpoint("equivariant-transformer", std=1.7, precision=32)
    assert import_model(file).card.dtype == "float32"
    check_equal("imported", upstream.load_model(str(file)), molecules(), tolerance=1e-4)


@pytest.mark.parametrize("case", ["tensornet, many types", "equivariant-transformer", "graph-network"])
@pytest.mark.parametrize("unit", ["Bohr", "nm"])
def test_units_of_the_training_data(upstream, write_checkpoint, atomref, case, unit):
    """Cutoff, centres and widths are lengths too."""
    length_A = {"Bohr": units.Bohr, "nm": 10.0}[unit]
    file = write_checkpoint(case, std=1.7, prior=atomref, cutoff_upper=4.2 / length_A)
    import_model(file, energy_unit="kcal/mol", length_unit=unit)
    model = upstream.load_model(str(file))
    check_equal("imported", model, molecules(), units.kcal / units.mol, length_A, tolerance=1e-8)


def test_mean_of_one_composition(upstream, write_checkpoint, atomref):
    file = write_checkpoint(mean=-4209.7, std=1.7, prior=atomref)
    card = import_model(file, elements=["H", "C", "O"], **ETHANOL).card
    assert card.energies_degenerate
    check_equal("imported", upstream.load_model(str(file)), molecules(["CH3CH2OH"]))


def test_mean_without_a_composition_is_refused(write_checkpoint):
    assert "--composition" in refusal(write_checkpoint(mean=-4209.7))


def test_mean_over_atoms_is_refused(upstream, write_checkpoint):
    """Should the second part fail, torchmd-net no longer counts a zero with the atoms, and means may come."""
    file = write_checkpoint("graph-network", reduce_op="mean")
    assert "reduce_op" in refusal(file)
    atoms = molecules(["H2"])[0]
    mean, _ = upstream_results(upstream.load_model(str(file)), atoms)
    total, _ = upstream_results(upstream.load_model(str(change(file, reduce_op="add"))), atoms)
    assert mean == pytest.approx(total / 3)


def test_charge_enters_tensornet(upstream, write_checkpoint):
    file = write_checkpoint("tensornet", charge=True)
    import_model(file, charges=[-1, 0, 1])
    ions = molecules()
    for atoms, charge in zip(ions, (1, -1, 0, 1, -1), strict=True):
        atoms.info["charge"] = charge
    check_equal("imported", upstream.load_model(str(file)), ions)


def test_reference_energies_that_were_taken_off_stay_off(upstream, write_checkpoint):
    prior = upstream.Atomref(max_z=20, enable=False)
    prior.initial_atomref[:] = 5.0
    prior.reset_parameters()
    file = write_checkpoint(prior=prior)
    card = import_model(file).card
    check_equal("imported", upstream.load_model(str(file)), molecules())
    assert "remove_ref_energy" in card.options["imported"]["notes"][0]


# --------------------------------------------------------------------------------------- older checkpoints


def test_names_of_former_versions(upstream, write_checkpoint, atomref):
    """Output networks had no `layers`, a single prior no number, and there was no vector_cutoff."""
    for case in ("equivariant-transformer of the paper", "graph-network"):
        file = write_checkpoint(case, prior=atomref)
        expected = upstream.load_model(str(file))
        checkpoint = torch.load(file, weights_only=True)
        former = {_former(name): tensor for name, tensor in checkpoint["state_dict"].items()}
        assert former.keys() != checkpoint["state_dict"].keys()
        torch.save({**checkpoint, "state_dict": former}, file)
        change(file, vector_cutoff=None, static_shapes=None, distributed_backend="ddp", energy_weight=1.0)
        import_model(file, replace=True)
        check_equal("imported", expected, molecules())


def _former(name: str) -> str:
    return (
        name.replace(".layers.", ".").replace("prior_model.0.", "prior_model.") if "_model." in name else name
    )


def test_tensornet_with_the_former_order_of_channels(upstream, write_checkpoint):
    """torchmd-net reorders the weights of checkpoints that have check_errors; see its load_model."""
    file = change(write_checkpoint("tensornet"), check_errors=True)
    import_model(file)
    with pytest.warns(UserWarning, match="Old-format"):
        expected = upstream.load_model(str(file))
    check_equal("imported", expected, molecules())


def test_tensornet_whose_order_cannot_be_known(write_checkpoint):
    file = change(write_checkpoint("tensornet"), vector_cutoff=None)
    assert "compatibility_load" in refusal(file)


# --------------------------------------------------------------------------------------------- mirror image


def test_so3_needs_to_know_the_kernels(write_checkpoint):
    file = write_checkpoint("tensornet", equivariance_invariance_group="SO(3)")
    assert "--trained-with" in refusal(file)


def test_so3_trained_with_python(upstream, write_checkpoint):
    file = write_checkpoint("tensornet", equivariance_invariance_group="SO(3)")
    import_model(file, trained_with="python")
    check_equal("imported", upstream.load_model(str(file)), molecules())


def test_so3_trained_with_warp(upstream, write_checkpoint):
    """Upstream with Warp is what upstream in Python says of the mirror image.

    tests/potentials/architectures/test_torchmdnet_upstream.py holds this against Warp itself.
    """
    file = write_checkpoint("tensornet", equivariance_invariance_group="SO(3)")
    import_model(file, trained_with="warp")
    model = upstream.load_model(str(file))
    for atoms in molecules(["CH3CH2OH", "CH3CONH2"]):
        mirrored = Atoms(atoms.numbers, -atoms.positions)
        expected, forces = upstream_results(model, mirrored)
        assert upstream_results(model, atoms)[0] != pytest.approx(expected, abs=1e-6)
        energy, found = calculate("imported", atoms)
        assert energy == pytest.approx(expected, abs=1e-9)
        assert found == pytest.approx(-forces, abs=1e-9)


# ---------------------------------------------------------------------------------------- the card, the CLI


def test_card_says_what_is_known(write_checkpoint, tmp_path):
    file = write_checkpoint("equivariant-transformer", std=1.7)
    import_model(file)
    frames = molecules(["CH3CH2OH", "H2O"])
    for atoms in frames:
        calculate("imported", atoms)
    write(tmp_path / "test.xyz", frames, format="extxyz")
    entry = import_model(
        file,
        replace=True,
        dataset="SPICE",
        level_of_theory="ωB97M-D3(BJ)/def2-TZVPPD",
        licence="MIT",
        test_data=tmp_path / "test.xyz",
    )
    card = entry.card
    assert (card.architecture, card.cutoff_A, card.continuous) == ("equivariant-transformer", 4.0, True)
    assert (card.elements, card.charges, card.spins) == (["C", "H", "N", "O"], [0], [0])
    assert card.dataset.level_of_theory.startswith("ωB97M")
    assert (card.dataset.hash, card.dataset.n_train, card.domain) == (None, None, None)
    assert card.metrics.n_frames == 2
    assert card.metrics.forces_mae_meV_A == pytest.approx(0, abs=1e-4)
    assert card.options["imported"]["file"] == "upstream.ckpt"
    assert card.options["imported"]["energy_unit"] == "eV"


def test_test_data_may_be_in_other_units(write_checkpoint, tmp_path):
    file = write_checkpoint("graph-network")
    import_model(file)
    frames = molecules(["CH3CH2OH", "H2O"])
    for atoms in frames:
        calculate("imported", atoms)
        atoms.info["E"] = 1000 * atoms.get_potential_energy()
        atoms.calc = None
    write(tmp_path / "test.xyz", frames, format="extxyz")
    test_data = {"path": str(tmp_path / "test.xyz"), "energy_key": "E", "energy_unit": "meV"}
    metrics = import_model(file, replace=True, test_data=test_data).card.metrics
    assert metrics.energy_mae_meV == pytest.approx(0, abs=1e-3)
    assert metrics.forces_mae_meV_A is None


def test_what_a_user_should_know_is_in_the_card(upstream, write_checkpoint):
    file = write_checkpoint("equivariant-transformer of the paper", derivative=False, dataset="HDF5")
    card = import_model(file).card
    notes = " ".join(card.options["imported"]["notes"])
    assert not card.continuous
    assert card.fitted == ["energy"]
    for word in ("dynamics refuses it", "HDF5", "without forces", "no errors"):
        assert word in notes


def test_report_of_a_run_shows_what_is_known(write_checkpoint):
    card = import_model(write_checkpoint("graph-network"), dataset="SPICE").card
    rows = model_rows(argparse.Namespace(read_model_cards=lambda: [card.model_dump(mode="json")]))
    shown = {row.name: row.value for row in rows}
    assert shown["training data"] == "SPICE"
    assert shown["measured errors"] == "none in the card"


def run(*arguments) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, done.output


UNITS = ("--energy-unit", "eV", "--length-unit", "Angstrom", "--elements", "H", "C", "N", "O")


def test_command(write_checkpoint):
    file = write_checkpoint("graph-network")
    status, output = run("import", "torchmd-net", file, "imported", *UNITS, "--charges", "-1", "0")
    assert status == 0, output
    assert "Registered imported" in output
    assert Registry().find("imported").card.charges == [-1, 0]
    assert "C" in Registry().find("imported").card.elements
    status, output = run("models", "show", "imported")
    assert status == 0
    assert "graph-network" in output
    for command in ("list", "cite"):
        status, output = run("models", command, *(["imported"] if command == "cite" else []))
        assert status == 0
        assert "imported" in output


def test_taken_name_needs_replace(write_checkpoint):
    file = write_checkpoint("graph-network")
    first = import_model(file).hash
    status, output = run("import", "torchmd-net", file, "imported", *UNITS)
    assert status == 2
    assert "--replace" in output
    assert Registry().find("imported").hash == first
    assert run("import", "torchmd-net", file, "imported", *UNITS, "--replace")[0] == 0


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("missing", ["energy_unit", "length_unit", "elements"])
def test_what_no_file_says_has_no_default(missing, tmp_path):
    flags = {"energy_unit": "eV", "length_unit": "Angstrom", "elements": "H C"}
    del flags[missing]
    stated = [part for key, value in flags.items() for part in (f"--{key.replace('_', '-')}", value)]
    status, output = run("import", "torchmd-net", tmp_path / "x.ckpt", "imported", *stated)
    assert status == 2
    assert missing in output
    assert "Traceback" not in output


CHANGED = {
    "cutoff_lower": 0.5,
    "output_model": "DipoleMoment",
    "model": "transformer",
    "prior_model": ["ZBL"],
    "atom_filter": 3,
    "aggr": "mean",
    "reduce_op": "mean",
    "activation": "mish",
    "max_z": None,
    "rbf_type": None,
    "dipole": True,
    "quantum_gates": 7,
}


@pytest.mark.parametrize("entry", CHANGED)
def test_entry_that_cannot_be_represented_is_named(write_checkpoint, entry):
    file = change(write_checkpoint("graph-network"), **{entry: CHANGED[entry]})
    assert entry in refusal(file)


def test_unknown_entry_may_be_answered_for(write_checkpoint):
    file = change(write_checkpoint("graph-network"), quantum_gates=7)
    assert "--ignore quantum_gates" in refusal(file)
    import_model(file, ignore=["quantum_gates"])


def test_weights_of_another_network_are_told_at_once(write_checkpoint):
    """Architecture, width and depth that are not those of the weights."""
    file = write_checkpoint("graph-network")
    for entry, value in {
        "model": "equivariant-transformer",
        "embedding_dimension": 32,
        "num_layers": 3,
    }.items():
        original = torch.load(file, weights_only=True)
        message = refusal(change(file, **{entry: value}))
        assert "another architecture or version" in message
        assert "weight" in message
        torch.save(original, file)


def test_elements_beyond_the_embedding(write_checkpoint):
    assert "Br" in refusal(write_checkpoint("graph-network"), elements=["H", "Br"])


def test_structure_of_other_elements_or_composition(write_checkpoint):
    file = write_checkpoint("graph-network")
    assert "--elements" in refusal(file, elements=["H", "C"], structure="ethanol")
    assert "C2H6O" in refusal(file, elements=["H", "C", "O"], structure="acetic-acid", composition="C2H6O")


def test_composition_is_a_formula_of_the_elements():
    for formula in ("C2H6", "ethanol", "C2H6O3N"):
        with pytest.raises(ValueError, match=r"formula|composition"):
            TorchMDNetImport(**{**STATED, "elements": ["H", "C", "O"], "composition": formula})


def test_elements_are_symbols():
    with pytest.raises(ValueError, match="carbon"):
        TorchMDNetImport(**{**STATED, "elements": "H carbon"})


# ------------------------------------------------------------------------------------------- broken files


def shortened(file: Path) -> Path:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file


def test_truncated_file(write_checkpoint):
    assert "cut short" in refusal(shortened(write_checkpoint("graph-network")))


def test_files_that_are_no_checkpoints(tmp_path):
    file = tmp_path / "x.ckpt"
    assert "no checkpoint" in refusal(file)
    for content in (b"", b"not a checkpoint", b"\x80\x02}q\x00."):
        file.write_bytes(content)
        assert "no file of torch.save" in refusal(file)
    torch.save({"state_dict": {}}, file)
    assert "hyper_parameters" in refusal(file)
    torch.save([torch.ones(3)], file)
    assert "torchmd-train" in refusal(file)
    with zipfile.ZipFile(tmp_path / "ensemble.zip", "w") as archive:
        archive.write(file)
    assert "ensemble" in refusal(tmp_path / "ensemble.zip")


class Evidence:
    """Its pickle leaves a file behind when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_file_runs_only_when_trusted(upstream, write_checkpoint, tmp_path):
    file, evidence = write_checkpoint("graph-network"), tmp_path / "evidence"
    checkpoint = torch.load(file, weights_only=True)
    torch.save({**checkpoint, "callbacks": Evidence(evidence)}, file)
    assert "--trust" in refusal(file)
    assert not evidence.exists()
    import_model(file, trust=True)
    assert evidence.exists()
    check_equal("imported", upstream.load_model(str(file)), molecules())


def test_arguments_as_a_namespace(upstream, write_checkpoint):
    """As early versions of Lightning wrote them; a namespace is a class, so it needs trust."""
    file = write_checkpoint("graph-network")
    expected = upstream.load_model(str(file))
    checkpoint = torch.load(file, weights_only=True)
    arguments = argparse.Namespace(**checkpoint["hyper_parameters"])
    torch.save({**checkpoint, "hyper_parameters": arguments}, file)
    assert "--trust" in refusal(file)
    import_model(file, trust=True)
    check_equal("imported", expected, molecules())


def test_code_that_is_not_installed(write_checkpoint, tmp_path, monkeypatch):
    (tmp_path / "absent.py").write_text("class Thing:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import absent

    file = tmp_path / "x.ckpt"
    torch.save({"thing": absent.Thing()}, file)
    (tmp_path / "absent.py").unlink()
    monkeypatch.delitem(__import__("sys").modules, "absent")
    assert "not installed" in refusal(file, trust=True)


def test_half_precision_is_refused(write_checkpoint):
    file = write_checkpoint("graph-network")
    checkpoint = torch.load(file, weights_only=True)
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in checkpoint["state_dict"].items()
    }
    torch.save({**checkpoint, "state_dict": half}, file)
    assert "float16" in refusal(file)


@pytest.mark.slow
def test_imported_model_passes_checks(write_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import_model(write_checkpoint("equivariant-transformer", precision=32))
    names = ("forces", "rotation", "net force", "extensivity", "continuity", "batch")
    chosen = [part for name in names for part in ("--only", name)]
    status, output = run("check", "imported", "--quiet", *chosen)
    assert status == 0, output


def test_refused_import_is_a_model_error(write_checkpoint):
    with pytest.raises(ModelError):
        import_model(write_checkpoint("graph-network"), elements=["U"])
