"""`validate` refuses what `run` refuses before its first step, in the same words, and writes nothing."""

import json
import os
import re

import numpy as np
import pytest
from annotated_types import Ge, Le
from ase import units
from ase.build import bulk, molecule
from ase.calculators import emt
from ase.io import write
from raising import told
from typer.testing import CliRunner

from asecalc_ml import config, plugins
from asecalc_ml.analysis.pipeline import run_analyses
from asecalc_ml.cli.md import app as md
from asecalc_ml.cli.ml import app as ml
from asecalc_ml.config.options import parse_options
from asecalc_ml.config.unit_hints import OTHERS, SYMBOLS, unit_hint, unit_of
from asecalc_ml.errors import AnalysisError
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.options import ProtocolOptions
from asecalc_ml.model.compile.package_cache import PackageCache
from asecalc_ml.runs import THERMO, THERMO_COLUMNS, RunPlan, RunReader, layout

EMT = "ase.calculators.emt:EMT"
ETHANOL = {"structure": "ethanol", "calculator": EMT}


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes options into a file, in a folder of its own where the commands work."""
    monkeypatch.chdir(tmp_path)

    def make(name: str = "job.yaml", /, **options):
        path = tmp_path / name
        path.write_text(config.dump_yaml(options), encoding="utf-8")
        return path

    return make


def invoke(app, *arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert "Traceback" not in result.output
    assert result.exit_code in (0, 2), result.output
    return result


def says(app, *arguments) -> str:
    """The complaint of a command that must fail as it should."""
    result = invoke(app, *arguments)
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


def listed(folder) -> list[str]:
    """Names in a folder, but for the user's cache of these tests."""
    return sorted({*os.listdir(folder)} - {"cache"})


# ---------------------------------------------------------------------- what cannot begin

SHORT = {"steps": 100, "timestep_fs": 1.0}
LANGEVIN = {"protocol": "nvt", "thermostat": "langevin"}
MSD = {"mean-square-displacement": None}
SCAN = {**ETHANOL, "protocol": "scan", "coordinate": "C-O", "start": 1.2, "stop": 1.8, "points": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calculator": "torchmdnet-ethanl"}, "did you mean 'torchmdnet-ethanol'?"),
        ({"structure": "nowhere.xyz"}, "no structure file nowhere.xyz"),
        ({"structure": "SiH4"}, "cannot evaluate the structure: No EMT-potential for Si"),
        ({"structure": "uracil", "calculator": "tiny"}, "was not trained on N"),
        ({"analyses": {"bond-lengths": {"patterns": ["0-9"]}}}, "has the atoms 0 to 8"),
        ({"structure": "water", "analyses": {"bond-lengths": {"patterns": ["C-O"]}}}, "no bond in H2O"),
        ({"protocol": "npt"}, "constant pressure needs a cell that is periodic in three directions"),
        ({"analyses": MSD, **SHORT}, "analysis mean-square-displacement: too few frames"),
        ({"analyses": {"vibrational-density": None}, **SHORT}, "run for 4.8 ps at least"),
        ({"analyses": {"vibrational-density": {"harmonic_run": "nowhere"}}}, "harmonic_run: nowhere: no dir"),
        ({"analyses": {"energy-drift": None}, "steps": 5}, "needs at least two rows in thermo.csv"),
        ({"analyses": {"energy-drift": None}, **LANGEVIN}, "conserves no energy"),
        ({"analyses": {"pressure": None}}, "neither pressure_GPa nor volume_A3"),
        ({"analyses": {"normal-modes": None}}, "needs hessian.npz, which a run of nve"),
        ({"analyses": {"relaxation": None}, "protocol": "vibrations", "relax": False}, "relaxation.csv"),
        ({"analyses": MSD, "protocol": "relax"}, "no moments in time"),
        ({"analyses": {"bond-lengths": None}, "protocol": "relax"}, "bond-lengths: frames of a run of relax"),
        ({"analyses": {"bond-lengths": None}, "protocol": "vibrations"}, "needs trajectory"),
        ({"protocol": "vibrations", "hessian": "autograd"}, "use hessian: finite-differences"),
        ({**SCAN, "coordinate": [0, 9]}, "atoms are numbered from 0 to 8"),
        ({**SCAN, "coordinate": "C-N"}, "no bond of the structure matches"),
        ({**SCAN, "start": 120, "stop": 180}, "the unit is Å; did you mean 1.8 (180 pm)?"),
        ({**SCAN, "analyses": {"scan": {"follow": [[1, 9]]}}}, "follow: [1, 9] are not two atoms"),
        ({**SCAN, "structure": "SiH4", "coordinate": [0, 1], "calculator": "ase.calculators.lj:LennardJones",
          "more_calculators": [EMT]}, f"{EMT} cannot compute the structure: No EMT-potential for Si"),
        ({"protocol": "transfer", "transfer_to": ["SiH4"], "reference": EMT}, "cannot compute it"),
        ({"protocol": "sequence", "sequence": [{"ensemble": "npt"}]}, "constant pressure needs a cell"),
        ({"velocities": "structure", "relax": False}, "the structure has no momenta"),
        ({"stop": {"outside_training_domain": True}}, "needs a model whose card"),
        ({**LANGEVIN, "friction_per_ps": 0}, "is 0, but should be above 0: dynamics without friction"),
        ({"protocol": "campaign"}, "line 1: a campaign is no protocol: remove the line"),
        ({"analyses": {"mean-square-displacement": {"fit_from_ps": 1, "fit_to_ps": 0.5}}},
         "fit_from_ps (1) must be below fit_to_ps (0.5)"),
        ({"directory": "job.yaml/run"}, "job.yaml is a file"),
        ({"directory": "/proc/job/run"}, "cannot write to /proc/job/run"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_run_refuses_is_invalid(file, tmp_path, options, message, request):
    if options.get("calculator") == "tiny":
        options = {**options, "calculator": str(request.getfixturevalue("tiny_model_file"))}
    path = file(**{"protocol": "nve", **ETHANOL, **options})
    said = says(md, "validate", path)
    assert message in said
    assert says(md, "run", path, "--quiet") == said
    assert listed(tmp_path) == ["job.yaml"]


def test_a_directory_that_holds_a_run_is_taken_unless_it_may_be_replaced(file, tmp_path):
    path = file(protocol="nve", **ETHANOL, directory="run")
    NVE(**ETHANOL, relax=False, equilibration_ps=0, steps=1).run(directory=tmp_path / "run", quiet=True)
    assert "run holds a run already" in says(md, "validate", path)
    assert invoke(md, "validate", path, "--overwrite").exit_code == 0
    assert invoke(md, "validate", path, "--directory", "other").exit_code == 0
    assert RunReader(tmp_path / "run").finished


def test_python_checks_the_same(tmp_path):
    options = NVE(**ETHANOL, **SHORT, analyses=MSD)
    for act in (options.check, options.run):
        with pytest.raises(
            AnalysisError, check=told(problem="mean-square-displacement", value=11, remedy="fit_to_ps")
        ):
            act(directory=tmp_path / "run")
    atoms = NVE(**ETHANOL).check(directory=tmp_path / "run")
    assert atoms.calc.results["energy"] == atoms.get_potential_energy()
    assert not (tmp_path / "run").exists()


def test_validate_compiles_nothing(file, monkeypatch, tiny_model_file):
    monkeypatch.setattr(PackageCache, "build", lambda *args: pytest.fail("it compiles"))
    always = {str(tiny_model_file): {"compile": "always"}}
    common = {"structure": "ethanol", "calculator": always}
    assert invoke(md, "validate", file(protocol="nve", **common, steps=10**7)).exit_code == 0
    assert invoke(md, "validate", file(**{**SCAN, **common}, more_calculators=[always])).exit_code == 0


# ---------------------------------------------------------------------- what can


def test_a_valid_file_is_summarised_and_nothing_written(file, tmp_path):
    path = file(protocol="nve", **ETHANOL, steps=1000, timestep_fs=0.2, write_every=5)
    lines = invoke(md, "validate", path).stdout.splitlines()
    assert lines[0] == f"{path} is valid: nve in runs/job"
    found = {name.strip(): text.strip() for name, _, text in (line.partition(":") for line in lines[1:])}
    assert found["structure"] == "ethanol, C2H6O, 9 atoms"
    assert re.fullmatch(r"emt, -?[\d.]+ eV, largest force [\d.]+ eV/Å", found["calculator"])
    assert found["production"] == "1,000 steps of 0.2 fs (0.2 ps), 300 K"
    assert found["frames"] == "201, one every 1 fs"
    assert listed(tmp_path) == ["job.yaml"]


def test_options_on_the_command_line_count(file):
    path = file(protocol="nve", **ETHANOL)
    assert "1 steps of 0.1 fs" in invoke(md, "validate", path, "--steps", "1").stdout


def test_a_pressure_is_shown_in_bar_too(file, tmp_path):
    write(tmp_path / "cu.xyz", bulk("Cu", cubic=True) * 2, format="extxyz")
    common = {"structure": "cu.xyz", "calculator": EMT}
    path = file(protocol="npt", **common, pressure_GPa=0.000101325)
    assert "0.000101325 GPa (1.01325 bar)" in invoke(md, "validate", path).stdout


# ---------------------------------------------------------------------- the plan of a run

TINY = {"relax": False, "equilibration_ps": 0, "steps": 23, "write_every": 4, "thermo_every": 5}
BUSSI = {"ensemble": "nvt", "thermostat": "bussi", "steps": 20}
PARTS = {**TINY, "sequence": [BUSSI, {"ensemble": "nve", "steps": 20}]}
del PARTS["steps"]


PLANNED = [
    {"protocol": "nve", **TINY},
    {"protocol": "nve", **TINY, "relax": True, "relax_fmax_eV_A": 0.5, "equilibration_ps": 0.002},
    {"protocol": "nvt", **TINY, "thermostat": "bussi"},
    {"protocol": "nvt", **TINY, "thermostat": "langevin"},
    {"protocol": "nvt", **TINY, "thermostat": "nose-hoover-chain", "temperature_end_K": 310},
    {"protocol": "nvt", **TINY, "thermostat": "bussi", "temperature_end_K": 310},
    {"protocol": "sequence", **PARTS},
    {"protocol": "sequence", **{**PARTS, "sequence": [BUSSI] * 2}},
    {"protocol": "relax", "relax_fmax_eV_A": 0.5},
    {"protocol": "vibrations", "relax_fmax_eV_A": 0.5},
    {"protocol": "vibrations", "relax": False},
    {**SCAN, "relax": False},
]


def planned(options: dict) -> ProtocolOptions:
    options = {**ETHANOL, "structure": "water", **options}
    return parse_options(options, plugins.get("protocols", options["protocol"]))


@pytest.mark.parametrize("options", PLANNED, ids=lambda value: value["protocol"])
def test_a_run_holds_what_was_planned(tmp_path, options):
    """The numbers of frames and rows, the files, and whether a drift can be measured."""
    model = planned(options)
    plan, run = model.plan(), model.run(directory=tmp_path / "run", quiet=True)
    written = {name.partition(".")[0] if "trajectory" in name else name for name in os.listdir(run.directory)}
    told = {layout.RELAXED, layout.RELAXATION, layout.EQUILIBRATION, layout.THERMO, layout.TRAJECTORY}
    told |= {layout.HESSIAN, layout.SCAN, layout.SCAN_TABLE}
    told -= {layout.RELAXED} if options["protocol"] == "scan" else set()  # it depends on the kind of scan
    assert written & told == plan.files
    if plan.n_frames is not None:
        assert (run.n_frames, len(run.read_thermo()["step"])) == (plan.n_frames, plan.n_rows)
        assert run.frame_interval_fs == plan.frame_interval_fs
        assert set(plan.columns) == set(run.read_thermo()) - set(THERMO_COLUMNS)
        assert run.production == plan.production
        assert _has_conserved(run) == plan.conserves_energy


def _has_conserved(run: RunReader) -> bool:
    """Each column that is said to be conserved is there in the rows of its segment."""
    stated = run.production
    rows = zip(stated.segments, stated.rows(run.read_thermo()["time_fs"]), strict=True)
    known = [np.isfinite(run.read_thermo()[one.conserved][k]).all() for one, k in rows if one.conserved]
    assert all(known)
    return bool(known)


TRANSFER = {"protocol": "transfer", "transfer_to": ["CH4"], "reference": EMT, "runs": 1, "reference_runs": 1}
MORE = [
    {**SCAN, "kind": "relaxed", "relax_fmax_eV_A": 0.5},
    {"protocol": "npt", **TINY},
    {**TRANSFER, "steps": 4, "equilibration_ps": 0.001},
]


def refusal(function, *arguments, **options) -> bool:
    """Whether an analysis is refused."""
    try:
        function(*arguments, **options)
    except AnalysisError:
        return True
    return False


@pytest.mark.parametrize("options", [*PLANNED, *MORE], ids=lambda value: value["protocol"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_analyses_are_refused_before_a_run_if_and_only_if_they_are_afterwards(tmp_path, options):
    atoms = bulk("Cu", cubic=True) if options["protocol"] == "npt" else None
    model = planned(options)
    run = model.run(atoms, directory=tmp_path / "run", quiet=True)
    for name in plugins.names("analyses"):
        asked = model.model_copy(update={"analyses": {name: None}})
        before = refusal(asked.check, atoms, directory=tmp_path / "other")
        assert before == refusal(run_analyses, run.directory, {name: None}), name


def test_a_stage_that_does_not_tell_its_files_forbids_no_analysis():
    RunPlan("theirs", None).check_written("THERMO")
    with pytest.raises(
        AnalysisError,
        check=told(name="ours", value="thermo.csv", allowed=["hessian.npz"], remedy="thermo.csv"),
    ):
        RunPlan("ours", frozenset([layout.HESSIAN])).check_written("THERMO")
    assert THERMO == layout.THERMO


# ---------------------------------------------------------------------- campaigns


def test_a_campaign_names_the_runs_that_cannot_begin(file):
    base = {"protocol": "nve", **ETHANOL}
    path = file(base=base, grid={"structure": ["ethanol", "SiH4"], "seed": [0, 1]})
    said = says(md, "validate", path)
    assert "run structure=SiH4,seed=0: the calculator cannot evaluate" in said.replace("seed=1", "seed=0")
    assert "ethanol" not in said
    assert said.count("No EMT-potential") == 1  # runs that differ in the seed alone are looked at once
    good = file("good.yaml", base=base, grid={"structure": ["ethanol", "water"], "seed": [0, 1]})
    assert "good.yaml is valid: a campaign of 4 runs in runs/good" in invoke(md, "validate", good).stdout
    assert not (good.parent / "runs").exists()


def test_a_campaign_that_has_begun_is_valid(file, tmp_path):
    base = {"protocol": "nve", **ETHANOL, "relax": False, "equilibration_ps": 0, "steps": 2}
    path = file(base=base, grid={"seed": [0, 1]})
    NVE(**{**base, "seed": 1}).run(directory=tmp_path / "runs" / "job" / "seed=1", quiet=True)
    assert "a campaign of 2 runs, 1 of which have begun" in invoke(md, "validate", path).stdout
    longer = file("job.yaml", base={**base, "steps": 3}, grid={"seed": [0, 1]})
    assert "a campaign of 2 runs, 1 of which have begun" in invoke(md, "validate", longer).stdout
    other = file("job.yaml", base={**base, "steps": 1}, grid={"seed": [0, 1]})
    assert "holds a run with other options" in says(md, "validate", other)


# ---------------------------------------------------------------------- trainings and samplings


@pytest.fixture
def training(tmp_path, monkeypatch):
    """Options of a small training, with its data."""
    monkeypatch.setenv("ASECALC_ML_HOME", str(tmp_path / "home"))
    frames = []
    for seed in range(6):
        atoms = molecule("CH3OH")
        atoms.rattle(0.05, seed=seed)
        atoms.calc = emt.EMT()
        atoms.get_forces()
        frames.append(atoms)
    write(tmp_path / "frames.xyz", frames, format="extxyz")
    return {
        "name": "m",
        "data": {"format": "ase", "path": "frames.xyz"},
        "split": {"n_train": 3, "n_validation": 2, "n_test": 1},
        "model": {"architecture": "schnet", "n_atom_basis": 8, "n_interactions": 1},
        "batch_size": 2,
    }


def test_a_valid_training_is_summarised_and_nothing_written(file, training, tmp_path):
    lines = invoke(ml, "validate", file(**training)).stdout
    assert "job.yaml is valid: a training in training/m" in lines
    assert "3 to train, 2 to validate, 1 to test" in lines
    assert "batches in each: 2" in lines
    assert listed(tmp_path) == ["frames.xyz", "job.yaml"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"format": "ase", "path": "none.xyz"}}, "none.xyz does not exist"),
        ({"split": {"n_train": 30}}, "6"),
        ({"model": {"architecture": "neuralil", "elements": ["C", "H"]}}, "the data hold O"),
        ({"loss": {"stress_weight": 1.0}}, "that train has stress"),
        ({"init_from": "nothing"}, "no model named 'nothing'"),
        ({"directory": "frames.xyz/m"}, "frames.xyz is a file"),
        ({"optimizer": {"learning_rate": 1000}}, "should be less than or equal to 10"),
        ({"model": {"architecture": "schnet", "cutoff_A": 500}}, "the unit is Å; did you mean 5 (500 pm)?"),
        ({"loss": {"forces_scale_eV_A": 100}}, "the unit is eV/Å; did you mean 0.1 (100 meV/Å)?"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_train_refuses_is_invalid(file, training, changes, message):
    path = file(**(training | changes))
    said = says(ml, "validate", path)
    assert message in said
    assert says(ml, "train", path, "--quiet") == said


def test_a_sampling(file, tmp_path):
    pytest.importorskip("tblite", reason="labels are GFN2-xTB: pip install 'asecalc-ml[reference]'")
    options = {"structure": "water", "output": "made/water.xyz", "n_frames": 10, "temperatures_K": [300]}
    lines = invoke(ml, "validate", file(**options)).stdout
    assert "frames for made/water.xyz" in lines
    assert "4,000 steps of 0.5 fs" in lines  # 1 ps of equilibration, and 10 times 100 fs
    assert "no structure 'watr'" in says(ml, "validate", file(**{**options, "structure": "watr"}))
    assert listed(tmp_path) == ["job.yaml"]


# ---------------------------------------------------------------------- files of another kind


@pytest.mark.parametrize(
    ("app", "command", "options", "named"),
    [
        (md, ["validate"], {"name": "m", "data": {}}, "asecalc-ml train"),
        (md, ["run"], {"name": "m", "data": {}}, "asecalc-ml validate"),
        (md, ["run"], {"base": {}, "grid": {}}, "asecalc-md campaign"),
        (md, ["campaign"], {"protocol": "nve"}, "asecalc-md run"),
        (md, ["validate"], {"structure": "ethanol", "output": "x.xyz"}, "asecalc-ml data generate"),
        (ml, ["validate"], {"protocol": "nve"}, "asecalc-md validate"),
        (ml, ["train"], {"protocol": "nve"}, "asecalc-md run"),
        (ml, ["data", "generate"], {"protocol": "nve"}, "asecalc-md run"),
    ],
)
def test_a_file_of_another_kind_names_its_command(file, app, command, options, named):
    assert f"`{named} job.yaml`" in says(app, *command, file(**options).name)


# ---------------------------------------------------------------------- templates

REQUIRED = {
    "campaign": {"base", "grid"},
    "scan": {"structure", "calculator", "coordinate"},
    "sequence": {"structure", "calculator", "sequence"},
    "transfer": {"structure", "calculator", "transfer_to", "reference"},
    "train": {"name", "data"},
    "generate": {"structure", "output"},
}
MD_KINDS = ["nve", "nvt", "npt", "sequence", "relax", "vibrations", "scan", "transfer", "campaign"]


@pytest.mark.parametrize(
    ("app", "kind", "command"),
    [
        *((md, kind, ["run"] if kind != "campaign" else ["campaign"]) for kind in MD_KINDS),
        (ml, "train", ["train"]),
        (ml, "generate", ["data", "generate"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_untouched_template_lacks_what_it_marks_as_required(tmp_path, app, kind, command):
    text = invoke(app, "template", kind).stdout
    marked = {line.partition(":")[0] for line in text.splitlines() if ":  # required" in line}
    assert marked == REQUIRED.get(kind, {"structure", "calculator"})
    path = tmp_path / "template.yaml"
    path.write_text(text, encoding="utf-8")
    for act in (["validate"], command):
        said = says(app, *act, path)
        assert all(f"key '{key}' is empty, and it is required" in said for key in marked)
    required = json.loads(invoke(app, "schema", kind).stdout)["required"]
    assert marked <= set(required)


# ---------------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("protocol", "option", "value", "hint"),
    [
        ("nve", "timestep_fs", 5e-16, "the unit is fs; did you mean 0.5 (5e-16 s)?"),
        ("nve", "timestep_fs", 0.0005, "the unit is fs; did you mean 0.5 (0.0005 ps)?"),
        ("nve", "timestep_fs", 500, "the unit is fs; did you mean 0.5 (500 as)?"),
        ("npt", "pressure_GPa", 101325, "the unit is GPa; did you mean 0.000101325 (101325 Pa)"),
        ("npt", "barostat_time_fs", 1, "the unit is fs; did you mean 1000 (1 ps)"),
        ("nvt", "thermostat_time_fs", 0.1, "the unit is fs; did you mean 100 (0.1 ps)"),
        ("nvt", "temperature_K", -5, "the unit is K; did you mean 268.15 (-5 °C)?"),
        ("nvt", "temperature_K", 1e6, "the unit is K"),
        ("nvt", "temperature_end_K", 1e6, "the unit is K"),
        ("nvt", "friction_per_ps", 1e12, "the unit is 1/ps; did you mean 1 (1e+12 1/s)?"),
        ("nve", "equilibration_ps", 1e6, "the unit is ps; did you mean 1000 (1e+06 fs)?"),
        ("nve", "equilibration_ps", 1e-12, "the unit is ps; did you mean 1 (1e-12 s)?"),
        ("relax", "relax_fmax_eV_A", 20, "the unit is eV/Å; did you mean 0.02 (20 meV/Å)?"),
        ("nve", "stop", {"wall_time_h": 86400}, "the unit is h; did you mean 24 (86400 s)"),
        ("nve", "analyses", {"radial-distribution": {"range_A": 5e-10}}, "did you mean 5 (5e-10 m)?"),
    ],
)
def test_a_number_in_another_unit_is_refused_with_what_was_meant(file, protocol, option, value, hint):
    path = file(protocol=protocol, **ETHANOL, **{option: value})
    said = says(md, "validate", path)
    assert hint in said
    assert "job.yaml, line" in said or "equilibration_ps is" in said


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("nve", {"timestep_fs": 0.001, "temperature_K": 0}),
        ("nve", {"timestep_fs": 20, "equilibration_timestep_fs": 0.01, "equilibration_ps": 1e5}),
        ("nvt", {"temperature_K": 0.01, "friction_per_ps": 1e-4, "thermostat_time_fs": 1}),
        ("npt", {"pressure_GPa": -10, "temperature_K": 50_000, "barostat_time_fs": 10}),
        ("npt", {"pressure_GPa": 1000}),
        ("relax", {"relax_fmax_eV_A": 1e-7}),
        ("nve", {"stop": {"wall_time_h": 0.001, "temperature_above_K": 1e5}}),
    ],
)
def test_extreme_conditions_are_allowed(protocol, options):
    parse_options(options, plugins.get("protocols", protocol))


def option_models():
    """Every option model of the package, with those inside."""
    from asecalc_ml.cli.ml import FILES
    from asecalc_ml.cli.templates import PLACES, of_file

    models = [plugins.get(group, name) for group in PLACES for name in plugins.names(group)]
    models = [
        inner for one in [*models, *map(of_file, FILES.values())] for inner in config.option_models(one)
    ]
    return {f"{one.__module__}.{one.__name__}": one for one in models}


#: Any value may be right: energies have no zero, and files hold their own.
FREE = {"max_energy_eV", "reference_energies_eV", "wells_deg", "harmonic_per_cm"}


@pytest.mark.parametrize("model", option_models().values(), ids=option_models())
def test_every_option_with_a_unit_is_bounded_on_both_sides(model):
    for name, field in model.model_fields.items():
        if unit_of(name) is None or name in FREE or "DatasetOptions" in str(model.__mro__):
            continue
        bounds = {
            key for one in config.constraints(field) for key in ("ge", "gt", "le", "lt") if hasattr(one, key)
        }
        assert bounds & {"ge", "gt"}, name
        assert bounds & {"le", "lt"}, name


def test_every_unit_is_known_and_hints_are_within_the_bounds():
    assert set(OTHERS) <= set(SYMBOLS)
    assert unit_hint("steps", 3, []) == ""
    assert unit_hint("length_A", 0, [Ge(1)]) == "the unit is Å"
    assert unit_hint("temperature_K", 9, [Ge(0), Le(100)]) == "the unit is K"  # 282.15 is beyond
    assert unit_hint("length_A", 9, [Le(5.5)]) == "the unit is Å; did you mean 0.09 (9 pm)?"  # 90 is beyond
    assert unit_hint("length_A", 200, [Ge(1), Le(50)]) == "the unit is Å; did you mean 2 (200 pm)?"


@pytest.mark.parametrize(
    ("unit", "other", "one_in_units"),
    [
        ("fs", "ps", units.fs * 1000 / units.fs),
        ("GPa", "Pa", units.Pascal / units.GPa),
        ("GPa", "bar", units.bar / units.GPa),
        ("A", "nm", units.nm),
        ("K", "eV/kB", 1 / units.kB),
        ("per_cm", "THz", 1 / (units._c * 100 * 1e-12)),
        ("h", "s", units.second / (3600 * units.second)),
    ],
)
def test_factors_are_those_of_ase(unit, other, one_in_units):
    factor, _ = OTHERS[unit][other]
    assert factor == pytest.approx(one_in_units, rel=1e-5)
