"""Mistakes that users make, and which option, plugin or model they meant."""

import pytest
from ase.build import molecule
from ase.calculators.calculator import Calculator
from typer.testing import CliRunner

from asecalc_ml import MLCalculator, plugins
from asecalc_ml.analysis.relevance.methods.registry import check_methods
from asecalc_ml.calculators.corrections import explicit
from asecalc_ml.cli import md, templates
from asecalc_ml.config.suggestions import nearest_name, unknown_name_error
from asecalc_ml.errors import AsecalcError, ConfigError
from asecalc_ml.potentials.datasets.fetch import fetch
from asecalc_ml.potentials.training.options import LossOptions, OptimizerOptions, SplitOptions, TrainOptions
from asecalc_ml.store.registry import Registry
from asecalc_ml.testing import check_calculator
from asecalc_ml.units import stress_unit

EVERY_DYNAMICS = {
    "temp": "temperature_K", "T": "temperature_K", "temperature": "temperature_K", "TEMP": "temperature_K",
    "tempreature_K": "temperature_K", "temperature_C": "temperature_K", "dt": "timestep_fs",
    "timestep": "timestep_fs", "time-step": "timestep_fs", "timeStep": "timestep_fs",
    "timestep_ps": "timestep_fs", "tstep": "timestep_fs", "structre": "structure", "molecule": "structure",
    "calc": "calculator", "model": "calculator", "potential": "calculator", "rng": "seed", "sead": "seed",
    "output": "directory", "dir": "directory", "dump_every": "write_every", "write_evry": "write_every",
    "log_every": "thermo_every", "checkpoint": "checkpoint_every", "traj_format": "trajectory_format",
    "fmax": "relax_fmax_eV_A", "relaxation": "relax", "minimize": "relax", "equil": "equilibration_ps",
    "equilibration_time": "equilibration_ps", "nthreads": "threads", "analysis": "analyses",
    "ensemble": "protocol", "flags": "flag", "velocity": "velocities",
}  # fmt: skip
ONE_ENSEMBLE = EVERY_DYNAMICS | dict.fromkeys(
    ("n_steps", "nsteps", "stepz", "stps", "max_steps", "duration"), "steps"
)
THERMOSTAT = ONE_ENSEMBLE | {
    "T_end": "temperature_end_K", "temp_end": "temperature_end_K", "gamma": "friction_per_ps",
    "friction": "friction_per_ps",
}  # fmt: skip
MEANT = {
    ("protocols", "nve"): ONE_ENSEMBLE,
    ("protocols", "nvt"): THERMOSTAT
    | {"tau_t": "thermostat_time_fs", "thermostat_tau": "thermostat_time_fs"},
    ("protocols", "npt"): THERMOSTAT
    | {
        "P": "pressure_GPa",
        "pressure_bar": "pressure_GPa",
        "tau_p": "barostat_time_fs",
        "barostat": "barostat_time_fs",
    },
    ("protocols", "sequence"): EVERY_DYNAMICS,
    ("protocols", "transfer"): ONE_ENSEMBLE | {"n_runs": "runs", "worker": "workers"},
    ("protocols", "scan"): {"npoints": "points", "coord": "coordinate", "calculators": "calculator"},
    ("protocols", "relax"): {"fmax": "relax_fmax_eV_A", "max_steps": "relax_steps"},
    ("protocols", "vibrations"): {"displacement": "displacement_A", "hess": "hessian"},
    ("analyses", "radial-distribution"): {"r_max": "range_A", "bins": "bin_A", "pair": "pairs"},
    ("analyses", "bond-lengths"): {"pattern": "patterns", "bin_width": "bin_A"},
    ("analyses", "energy-drift"): {"limit": "limit_meV_atom_ps"},
    ("analyses", "vibrational-density"): {"resolution": "resolution_per_cm", "prominence": "peak_prominence"},
    ("architectures", "painn"): {
        "r_cut": "cutoff_A",
        "n_layers": "n_interactions",
        "features": "n_atom_basis",
    },
    ("architectures", "equivariant-transformer"): {
        "layers": "n_layers",
        "heads": "n_heads",
        "hidden": "hidden_channels",
    },
    ("datasets", "ase"): {"file": "path", "energy-Unit": "energy_unit", "force_key": "forces_key"},
}
OF_A_TRAINING = {
    TrainOptions: {
        "epochs": "max_epochs",
        "n_epochs": "max_epochs",
        "batchsize": "batch_size",
        "dtype": "precision",
        "patience": "patience_epochs",
        "architecture": "model",
        "gpu": "device",
        "dataset": "data",
        "pretrained": "init_from",
    },
    OptimizerOptions: {
        "lr": "learning_rate",
        "wd": "weight_decay",
        "grad_clip": "gradient_clip",
        "ema": "ema_decay",
    },
    LossOptions: {"force_weight": "forces_weight", "w_energy": "energy_weight", "energy": "energy_weight"},
    SplitOptions: {"ntrain": "n_train", "val": "n_validation", "train_size": "n_train"},
}
OF_PLUGINS = {
    "analyses": {
        "rdf": "radial-distribution",
        "msd": "mean-square-displacement",
        "bond_length": "bond-lengths",
    },
    "protocols": {"NVE": "nve", "nev": "nve", "seq": "sequence", "vib": "vibrations"},
    "architectures": {"PaiNN": "painn", "schnt": "schnet", "dimenet": "dimenet-plus-plus"},
}
NONSENSE = ("banana", "foo", "qqq", "xyzzy", "colour", "hello", "verbose", "a", "the", "n", "")


def models():
    for (group, name), meant in MEANT.items():
        yield pytest.param(plugins.get(group, name), meant, id=name)
    for model, meant in OF_A_TRAINING.items():
        yield pytest.param(model, meant, id=model.__name__)


@pytest.mark.parametrize(("model", "meant"), list(models()))
def test_mistakes_of_every_kind_lead_to_the_option_that_was_meant(model, meant):
    assert {name: nearest_name(name, model.model_fields) for name in meant} == meant


@pytest.mark.parametrize("group", OF_PLUGINS)
def test_names_of_plugins(group):
    meant = OF_PLUGINS[group]
    assert {name: nearest_name(name, plugins.names(group)) for name in meant} == meant


@pytest.mark.parametrize("group", ["protocols", "analyses", "architectures", "datasets"])
def test_every_option_is_its_own_nearest_in_any_spelling_and_nonsense_has_none(group):
    for plugin in plugins.names(group):
        known = plugins.get(group, plugin).model_fields
        for name in known:
            spellings = (name, name.upper(), name.replace("_", "-"), name.replace("_", ""))
            assert {nearest_name(one, known) for one in spellings} == {name}
        assert not [name for name in NONSENSE if nearest_name(name, known)]


def test_an_option_without_its_unit_is_found_unless_another_is_called_so():
    for protocol in plugins.names("protocols"):
        known = plugins.get("protocols", protocol).model_fields
        for name in ("temperature", "timestep", "equilibration", "pressure", "relax_fmax"):
            meant = [one for one in known if one.startswith(f"{name}_")]
            assert nearest_name(name, known) == next(iter(meant), None), (protocol, name)


def test_an_option_of_an_option_is_found_from_above(tmp_path):
    file = tmp_path / "nve.yaml"
    file.write_text("protocol: nve\nstructure: ethanol\ncalculator: torchmdnet-ethanol\n")
    for given, meant in {
        "temp": "temperature_K",
        "wall_time": "stop.wall_time_h",
        "stop.walltime": "stop.wall_time_h",
        "analyses.energy-drift.limit": "analyses.energy-drift.limit_meV_atom_ps",
    }.items():
        result = CliRunner().invoke(md.app, ["validate", str(file), f"--{given}", "500"])
        assert result.exit_code == 2
        assert f"unknown key '{given}'; did you mean '{meant}'?" in " ".join(result.output.split())


UNKNOWN = {
    "no analysis 'zzqq'. Registered are": lambda name: plugins.get("analyses", name),
    "unknown unit of stress 'zzqq'. Allowed are": stress_unit,
    "no model named 'zzqq'. Known: ": lambda name: Registry().find(name),
    "no correction 'zzqq'. There are": lambda name: explicit([name]),
    "no check 'zzqq'. There are": lambda name: check_calculator(Calculator(), molecule("H2O"), only=[name]),
    "no data set is called 'zzqq'. Known are": lambda name: fetch(name, "nowhere"),
    "no method is called 'zzqq'. There are": lambda name: check_methods([name]),
    "no options are called 'zzqq'. There are": lambda name: templates.option_model(name, {}, "protocols"),
    "MLCalculator has no parameter 'zzqq'. It has": lambda name: MLCalculator("zbl-none", **{name: 1}),
}


@pytest.mark.parametrize(("message", "ask"), UNKNOWN.items(), ids=UNKNOWN)
def test_where_no_name_is_near_all_are_listed_in_a_sentence_of_their_own(message, ask):
    with pytest.raises((AsecalcError, ValueError)) as caught:
        ask("zzqq")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["appel", "q"])
def test_the_error_says_the_same_and_carries_what_it_says(name):
    error = unknown_name_error(ConfigError, "no such fruit", name, iter(["pear", "apple"]), "There are two.")
    assert type(error) is ConfigError
    assert (error.name, error.value) == (name, name)
    assert error.remedy.endswith("There are two.")
    assert error.allowed == ["pear", "apple"]


def test_the_nearest_name_is_asked_for_and_what_follows_is_kept():
    fruits = ["pear", "apple"]
    errors = {
        "no fruit 'appel'; did you mean 'apple'?": ("no fruit 'appel'", "appel", fruits),
        "no fruit 3. There are two": ("no fruit 3", 3, fruits, "There are two"),
        "no fruit 'q'": ("no fruit 'q'", "q", []),
    }
    for text, given in errors.items():
        assert str(unknown_name_error(ConfigError, *given)) == text
