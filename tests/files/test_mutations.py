"""Files damaged at random: a clear error or the right result, never a traceback and never a wrong number.

A case that fails is named by its subject, file and seed. The variables ASECALC_ML_FIRST_MUTATION (the first
seed, 0) and ASECALC_ML_MUTATIONS (of each subject, 120) repeat it, or look for new ones:
``ASECALC_ML_FIRST_MUTATION=57 ASECALC_ML_MUTATIONS=1 pytest -m slow tests/files -k campaign``.
"""

import json
import os
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from places import HELPERS
from typer.testing import CliRunner

from asecalc_ml.cli.md import app as md
from asecalc_ml.cli.ml import app as ml
from asecalc_ml.config.options import dump_yaml, read_yaml
from asecalc_ml.errors import AsecalcError

MUTATIONS = int(os.environ.get("ASECALC_ML_MUTATIONS", "120"))
FIRST = int(os.environ.get("ASECALC_ML_FIRST_MUTATION", "0"))
MEMORY_BYTES = 3 << 30  # more than any of these files needs, less than a damaged count would ask for
TIME_S = 60
SPRINGS = {"structure": "H2O", "calculator": "toy_calculators:Springs", "relax": False, "equilibration_ps": 0}
SHORT = {"timestep_fs": 0.5, "steps": 12, "write_every": 2, "thermo_every": 2, "checkpoint_every": 4}


class UnnoticedError(AssertionError):
    """A damaged file that was not refused as it should be."""


@dataclass(frozen=True)
class Subject:
    """Files, and what reads them.

    Parameters
    ----------
    make : callable
        Writes valid files into a folder.
    victims : tuple of str
        Patterns of the files to damage.
    use : callable
        Reads them as a command does, given the damaged file relative to the present folder; returns what must
        be the same as with the undamaged file, unless it is refused.
    """

    make: Callable[[Path], None]
    victims: tuple[str, ...]
    use: Callable[[Path], object]


FILE = "FILE"  # stands for the damaged file


def command(app, *arguments: str) -> Callable[[Path], None]:
    """Run a command; it must succeed, or fail with a message."""

    def use(file: Path) -> None:
        result = CliRunner().invoke(app, [one.replace(FILE, str(file)) for one in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if result.exit_code != 0 and (result.exit_code not in (2, 75) or not result.stderr.strip()):
            raise UnnoticedError(f"exit status {result.exit_code}: {result.output}")
        if result.exit_code != 0:
            raise AsecalcError(result.stderr.strip())

    return use


def both(*uses: Callable[[Path], object]) -> Callable[[Path], None]:
    """One after the other, also where the first was refused."""

    def use(file: Path) -> None:
        refusals = []
        for one in uses:
            try:
                one(file)
            except AsecalcError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]

    return use


# ---------------------------------------------------------------------- options

DYNAMICS = {"structure": "ethanol", "calculator": "torchmdnet-ethanol", "steps": 2000}
PROTOCOLS = {
    "nve": DYNAMICS | {"analyses": {"bond-lengths": {}, "angles": {"patterns": ["C-C-O"]}}, "seed": 3},
    "nvt": DYNAMICS | {"thermostat": "langevin", "stop": {"wall_time_h": 1.0}, "temperature_K": 300},
    "npt": {"structure": "cell.extxyz", "calculator": "torchmdnet-si", "pressure_GPa": 0.1, "steps": 100},
    "relax": {"structure": "ethanol", "calculator": {"ase.calculators.emt:EMT": {}}},
    "vibrations": {"structure": "water", "calculator": "ase.calculators.emt:EMT", "displacement_A": 0.01},
    "scan": {
        "structure": "ethanol", "calculator": "torchmdnet-ethanol", "coordinate": "C-C-O-H", "start": 0,
        "stop": 180, "points": 7, "reference_values": "values.csv",
    },
    "transfer": {
        "structure": "ethanol", "transfer_to": ["1-propanol", "2-propanol"],
        "calculator": "torchmdnet-ethanol", "reference": "torchmdnet-ethanol-1", "runs": 5,
        "reference_runs": 8,
        "steps": 100,
    },
    "sequence": {
        "structure": "ethanol", "calculator": "torchmdnet-ethanol",
        "sequence": [{"ensemble": "nvt", "steps": 100}, {"ensemble": "nve", "steps": 100}],
    },
}  # fmt: skip
TRAINING = {
    "name": "small",
    "data": {"format": "ase", "path": "frames.xyz"},
    "split": {"n_train": 5, "n_validation": 2, "n_test": 1},
    "model": {
        "architecture": "equivariant-transformer", "hidden_channels": 8, "n_layers": 1, "n_rbf": 4,
        "n_heads": 2,
    },
    "directory": "training",
    "max_epochs": 1,
    "optimizer": {
        "schedule": "one-cycle", "cycle_epochs": 1,
        "minimum_learning_rate": 5e-4, "final_learning_rate": 5e-6,
    },
    "precision": "float32",
}  # fmt: skip
GENERATION = {
    "structure": "ethanol",
    "temperatures_K": [300, 500],
    "n_frames": 10,
    "output": "x.xyz",
    "seed": 1,
}


def write_options(folder: Path) -> None:
    from ase.build import bulk

    for protocol, options in PROTOCOLS.items():
        (folder / f"{protocol}.yaml").write_text(dump_yaml({"protocol": protocol} | options))
    grid = {"seed": [0, 1], "temperature_K": [300, 500]}
    (folder / "campaign.yaml").write_text(dump_yaml({"base": "nve.yaml", "grid": grid, "workers": 2}))
    write(folder / "cell.extxyz", bulk("Si", cubic=True))
    (folder / "values.csv").write_text(
        "value,energy_eV\n" + "".join(f"{30 * k},{0.1 * k}\n" for k in range(7))
    )


def read_reference_values(file: Path) -> None:
    from asecalc_ml.md_protocols.scan.plan import read_values

    read_values(str(file))


def write_training_options(folder: Path) -> None:
    (folder / "train.yaml").write_text(dump_yaml(TRAINING))
    (folder / "generate.yaml").write_text(dump_yaml(GENERATION))


def check_training_options(file: Path) -> None:
    """What `train` and `data generate` do with their files before they begin."""
    from asecalc_ml.cli.ml import check_generation, check_training

    check = check_training if file.name == "train.yaml" else check_generation
    check(read_yaml(file), str(file))


# ---------------------------------------------------------------------- models


def write_model(folder: Path, terms=(), name: str = "tiny", seed: int = 0) -> None:
    import torch

    from asecalc_ml.potentials.torchmdnet import EquivariantTransformer
    from asecalc_ml.potentials.training.frames.domain import measure_domain
    from asecalc_ml.store.card import DatasetCard, Metrics
    from asecalc_ml.store.model_file import save_model
    from asecalc_ml.store.seen_frames import SeenFrames
    from asecalc_ml.structure.loading import load_structure
    from asecalc_ml.testing import untrained_card, untrained_model

    options = EquivariantTransformer(hidden_channels=8, n_layers=1, n_rbf=4, n_heads=2, max_atomic_number=9)
    model = untrained_model(options, seed, dtype=torch.float32)
    card = untrained_card(name, options, model, load_structure("water"))
    forces = {"forces_mae_meV_A": 10.0, "forces_rmse_meV_A": 14.0}
    told = {
        "elements": ["C", "H", "O"],
        "corrections": list(terms),
        "domain": measure_domain(labelled_frames(), model.potential.cutoff),
        "dataset": DatasetCard(name="water", temperature_K=300, n_train=5, n_validation=2),
        "metrics": Metrics(n_frames=1, energy_mae_meV=1.5, energy_rmse_meV=2.5, **forces),
    }
    card = card.model_copy(update=told)
    save_model(folder / f"{name}.safetensors", model, card, SeenFrames.of(labelled_frames(), []))


def write_corrected_model(folder: Path) -> None:
    from asecalc_ml.calculators.corrections import explicit

    write_model(folder, explicit(["zbl", {"d3": {"functional": "PBE"}}]))


def evaluate(file: Path) -> bytes:
    """Energies and forces, of elements that the model's golden structure does not have, too."""
    from asecalc_ml.calculators.ml_calculator import MLCalculator

    calculator = MLCalculator(file.absolute(), compile="never")
    found = b""
    for name in ("H2O", "CH3CH2OH"):
        atoms = molecule(name)
        atoms.calc = calculator
        found += np.float64(atoms.get_potential_energy()).tobytes() + atoms.get_forces().tobytes()
    return found


# ---------------------------------------------------------------------- runs


def run_dynamics(folder: Path, **options) -> None:
    from asecalc_ml.md_protocols.nve import NVE

    NVE(**SPRINGS | SHORT | options).run(directory=folder / "run", quiet=True)


def write_run(folder: Path) -> None:
    """A finished run of a model, analysed."""
    write_model(folder)
    model = str(folder / "tiny.safetensors")
    relaxed = {"structure": "water", "relax": True, "relax_fmax_eV_A": 0.5, "equilibration_ps": 0.002}
    analyses = {"connectivity": {}, "temperature": {}, "bond-lengths": {}}
    run_dynamics(folder, calculator=model, analyses=analyses, **relaxed)
    CliRunner().invoke(md, ["report", "run", "-q"])


def write_committee_run(folder: Path) -> None:
    """A run of two models, some of whose frames are flagged."""
    for seed, name in enumerate(("tiny", "other")):
        write_model(folder, name=name, seed=seed)
    members = [str(folder / f"{name}.safetensors") for name in ("tiny", "other")]
    flag = {"committee_deviation_eV_A": 1e-6, "interval_fs": 1.0}
    run_dynamics(folder, structure="water", calculator={"committee": {"members": members}}, flag=flag)
    CliRunner().invoke(md, ["report", "run", "-q"])


def write_two_runs(folder: Path) -> None:
    write_run(folder)
    shutil.copytree(folder / "run", folder / "other")


def write_extxyz_run(folder: Path) -> None:
    run_dynamics(folder, trajectory_format="extxyz", analyses={"bond-lengths": {}})


def write_h5md_run(folder: Path) -> None:
    run_dynamics(folder, trajectory_format="h5md", analyses={"bond-lengths": {}})


def write_unfinished_run(folder: Path) -> None:
    """A run that was interrupted in its last steps."""
    import toy_calculators

    calculate = toy_calculators.Springs.calculate

    def interrupted(self, *args, **kwargs):
        calculate(self, *args, **kwargs)
        if self.calls == 11:
            raise KeyboardInterrupt

    toy_calculators.Springs.calculate = interrupted
    try:
        run_dynamics(folder, analyses={"connectivity": {}})
    except KeyboardInterrupt:
        pass
    finally:
        toy_calculators.Springs.calculate = calculate


def write_scan(folder: Path) -> None:
    """A finished scan, and one of which only the evaluations were kept."""
    from asecalc_ml.md_protocols.scan.options import Scan

    options = {"structure": "water", "calculator": "ase.calculators.emt:EMT", "coordinate": [0, 1],
               "start": 0.9, "stop": 1.1, "points": 3, "relax": False}  # fmt: skip
    for name in ("run", "begun"):
        Scan(**options).run(directory=folder / name, quiet=True)
    provenance = json.loads((folder / "begun/provenance.json").read_text())
    (folder / "begun/provenance.json").write_text(json.dumps(provenance | {"finished": None}))


def write_vibrations(folder: Path) -> None:
    from asecalc_ml.md_protocols.vibrations import Vibrations

    Vibrations(structure="H2O", calculator="toy_calculators:Springs").run(
        directory=folder / "run", quiet=True
    )


def write_transfer(folder: Path) -> None:
    from asecalc_ml.md_protocols.transfer.options import Transfer

    toy = "transfer_calculators:Molecules"
    Transfer(
        structure="H2O", transfer_to=["CH4"], calculator={toy: {"stiffness": 28.0}}, reference=toy, runs=2,
        reference_runs=2, steps=12, timestep_fs=0.5, equilibration_ps=0.002, write_every=3, thermo_every=2,
        distributions=["H-O", "C-H"],
    ).run(directory=folder / "run", quiet=True)  # fmt: skip


def write_campaign(folder: Path) -> None:
    base = {"protocol": "nve"} | SPRINGS | SHORT | {"analyses": {"connectivity": {}}}
    (folder / "grid.yaml").write_text(dump_yaml({"base": base, "grid": {"seed": [0]}, "directory": "runs"}))
    from asecalc_ml.md_protocols.nve import NVE

    options = {key: value for key, value in base.items() if key != "protocol"} | {"seed": 0}
    NVE(**options).run(directory=folder / "runs/seed=0", quiet=True)
    (folder / "runs/campaign.json").write_text(json.dumps({"failures": {"seed=0": ["it broke"]}}))


RUN = tuple(
    f"run/{name}" for name in ("*.json", "*.yaml", "*.csv", "*.jsonl", "*.traj", "*.npz", "results/*.json")
)
TEXTS = tuple(f"run/{name}" for name in ("*.json", "*.jsonl", "*.csv", "*.yaml"))
report = command(md, "report", "run", "-q")


def read_results(file: Path) -> None:
    """What `explain` and a transfer's report do: write a page from results that are there."""
    from asecalc_ml.analysis.report.report import write_report

    write_report("run")


def read_run(file: Path) -> None:
    """Everything that a reader of run directories gives."""
    from asecalc_ml.runs import RunReader

    run = RunReader(file.parts[0])
    has_time = (Path(file.parts[0]) / "thermo.csv").is_file()
    both(
        *(lambda file, name=name: getattr(run, name)() for name in dir(run) if name.startswith(READS)),
        *(lambda file, name=name: getattr(run, name) for name in FACTS),
        *[lambda file: run.frame_interval_fs] * has_time,
        lambda file: list(run.frames()),
        lambda file: [frames.forces for frames in run.frame_chunks()],
    )(file)


READS = ("read_", "count_")
FACTS = (
    "atoms", "bonds", "cell", "pbc", "planned_steps", "finished", "ended_early", "stopped_as_asked", "parts",
    "n_frames", "n_lost_frames",
)  # fmt: skip


# ---------------------------------------------------------------------- data and trainings


def labelled_frames(n: int = 8) -> list:
    frames = []
    for seed in range(n):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=seed)
        forces = np.random.default_rng(seed).normal(size=(3, 3))
        atoms.calc = SinglePointCalculator(atoms, energy=-14.0 + 0.1 * seed, forces=forces - forces.mean(0))
        frames.append(atoms)
    return frames


def write_data(folder: Path) -> None:
    import h5py
    from ase.build import bulk

    frames = labelled_frames(3)
    write(folder / "data.xyz", frames, format="extxyz")
    write(folder / "data.traj", frames)
    np.savez(
        folder / "data.npz", nuclear_charges=frames[0].numbers, coords=[atoms.positions for atoms in frames],
        energies=[atoms.get_potential_energy() for atoms in frames],
        forces=[atoms.get_forces() for atoms in frames],
    )  # fmt: skip
    cell = bulk("Si", cubic=True)
    site = [{"species": [{"element": "Si"}], "xyz": row} for row in cell.positions.tolist()]
    record = {
        "structure": {"sites": site, "lattice": {"matrix": cell.cell.array.tolist()}},
        "outputs": {"energy": -40.0, "forces": np.zeros((8, 3)).tolist(), "virial_stress": [1] * 6},
        "group": "a", "description": "b",
    }  # fmt: skip
    (folder / "data.json").write_text(json.dumps([record, record]))
    rng = np.random.default_rng(0)
    line = {
        "Positions": (rng.permutation(4**3)[:15, None] // [1, 4, 16] % 4 * 2.0).tolist(),
        "Forces": np.zeros((15, 3)).tolist(), "Energy": -1.0, "Cell-Size": np.diag([9.0, 9, 9]).tolist(),
    }  # fmt: skip
    (folder / "ean.json").write_text(json.dumps(line) + "\n" + json.dumps(line) + "\n")
    with h5py.File(folder / "data.h5", "w") as file:
        group = file.create_group("gdb11_s01/gdb11_s01-0")
        group["coordinates"] = np.array([atoms.positions for atoms in frames])
        group["energies"] = np.arange(3.0)
        group["species"] = np.array(["O", "H", "H"], dtype="S1")
        group["smiles"] = np.array(list("[H]O[H]"), dtype="S1")


def convert(file: Path) -> None:
    """`data convert`, and what `map` and `explain` do with the structures they are given."""
    from asecalc_ml.cli.structures import read_structures
    from asecalc_ml.structure.loading import load_structure

    further = ("--format", "neuralil-json") if file.name == "ean.json" else ()
    uses = [command(ml, "data", "convert", FILE, "target.extxyz", "--overwrite", *further)]
    uses += [] if further else [read_structures]
    uses += [load_structure] if file.suffix in (".xyz", ".traj") else []
    both(*uses)(file)


def write_property_data(folder: Path) -> None:
    """QM9 as an archive and as the tables of qm9pack, and crystals with a table."""
    from property_data import MOLECULES, archive_of, crystals_in, tables_of

    archive_of(folder / "raw.tar", MOLECULES)
    tables_of(folder / "tables")
    crystals_in(folder / "mofs")


def convert_property_data(format_of_data: str, source: str) -> Callable[[Path], object]:
    """`data convert` of what is no single file."""
    return command(ml, "data", "convert", source, "target.xyz", "--overwrite", "--format", format_of_data)


def write_model_and_data(folder: Path) -> None:
    write_model(folder)
    write(folder / "data.xyz", labelled_frames(2), format="extxyz")


def write_training(folder: Path) -> None:
    write(folder / "frames.xyz", labelled_frames(), format="extxyz")
    (folder / "train.yaml").write_text(dump_yaml(TRAINING))
    result = CliRunner().invoke(ml, ["train", "train.yaml", "-q"])
    assert result.exit_code == 0, result.output
    (folder / "train.yaml").write_text(dump_yaml(TRAINING | {"max_epochs": 2}))


def write_search(folder: Path) -> None:
    """A hyperparameter search with a finished, a failed, a lost and a running trial."""
    space = {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}, "batch_size": {"integer": [1, 8]}}
    options = {
        "name": "toy",
        "data": {"format": "ase", "path": "frames.xyz"},
        "search": {"space": space, "trials": 4},
    }
    (folder / "tuning" / "toy").mkdir(parents=True)
    for file in ("tune.yaml", "tuning/toy/tune.yaml"):
        (folder / file).write_text(dump_yaml(options))
    values = {"optimizer.learning_rate": 1e-3, "batch_size": 4}
    result = {"objectives": {"val_loss": 0.5}, "numbers": {"epochs": 9, "cpu_seconds": 1.5}}
    events = [{"kind": "begun", "version": "0.1.0"}]
    events += [{"kind": "submitted", "trial": number, "values": values} for number in (1, 2, 3)]
    events += [{"kind": "started", "trial": number, "token": "a"} for number in (1, 2, 3)]
    events += [
        {"kind": "ended", "trial": 2, "state": "done", "reason": "", **result},
        {"kind": "lost", "trial": 1, "reason": "killed"},
        {"kind": "ended", "trial": 3, "state": "failed", "reason": "no", "objectives": {}, "numbers": {}},
    ]
    lines = [json.dumps({**event, "time": 1000.0 + place}) for place, event in enumerate(events)]
    (folder / "tuning" / "toy" / "journal.jsonl").write_text("\n".join(lines) + "\n")


SUBJECTS = {
    "options": Subject(write_options, ("*.yaml",), command(md, "validate", FILE)),
    "reference values": Subject(write_options, ("values.csv",), read_reference_values),
    "training options": Subject(write_training_options, ("*.yaml",), check_training_options),
    "model": Subject(write_model, ("*.safetensors",), evaluate),
    "corrected model": Subject(write_corrected_model, ("*.safetensors",), evaluate),
    "models": Subject(
        write_model,
        ("*.safetensors",),
        both(
            command(ml, "models", "add", "tiny.safetensors", "--replace"),
            command(ml, "models", "show", "tiny.safetensors"),
            command(ml, "models", "cite", "tiny.safetensors"),
            command(ml, "models", "list"),
        ),
    ),
    "run": Subject(write_run, RUN, read_run),
    "report": Subject(write_run, RUN, report),
    "results": Subject(write_run, RUN, read_results),
    "comparison": Subject(
        write_two_runs, RUN, command(md, "compare", "run", "other", "-p", "O-H", "-o", "page")
    ),
    "committee run": Subject(write_committee_run, RUN, both(read_run, report)),
    "extxyz run": Subject(write_extxyz_run, ("run/trajectory.extxyz",), both(read_run, report)),
    "h5md run": Subject(write_h5md_run, ("run/trajectory.h5md",), both(read_run, report)),
    "unfinished run": Subject(write_unfinished_run, RUN, command(md, "resume", "run", "-q")),
    "scan": Subject(
        write_scan,
        (*RUN, *(pattern.replace("run", "begun") for pattern in RUN)),
        both(report, read_run, command(md, "resume", "begun", "-q")),
    ),
    "vibrations": Subject(write_vibrations, (*RUN, "run/hessian.npz"), both(read_run, report)),
    "transfer": Subject(
        write_transfer, (*TEXTS, "run/*/*/thermo.csv", "run/*/*/provenance.json", "run/*/*/*.traj"), report
    ),
    "search": Subject(
        write_search,
        ("tune.yaml", "tuning/toy/tune.yaml", "tuning/toy/journal.jsonl"),
        command(ml, "tune", "tune.yaml", "--status"),
    ),
    "campaign": Subject(
        write_campaign,
        (
            "grid.yaml",
            "runs/campaign.json",
            "runs/*/*.json",
            "runs/*/*.yaml",
            "runs/*/*.jsonl",
            "runs/*/thermo.csv",
        ),
        command(md, "campaign", "grid.yaml", "--status"),
    ),
    "data": Subject(write_data, ("*",), convert),
    "property data": Subject(
        write_property_data,
        ("raw.tar", "tables/*", "mofs/*"),
        both(
            convert_property_data("qm9", "raw.tar"),
            convert_property_data("qm9", "tables"),
            convert_property_data("cif-csv", "mofs"),
        ),
    ),
    "evaluation": Subject(
        write_model_and_data,
        ("data.xyz", "*.safetensors"),
        command(ml, "eval", "tiny.safetensors", "data.xyz"),
    ),
    "training": Subject(
        write_training,
        ("training/*.json", "training/*.csv", "training/*.ckpt", "training/train.yaml"),
        command(ml, "train", "train.yaml", "--resume", "--replace", "-q"),
    ),
}


# ---------------------------------------------------------------------- what every one must do


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.syspath_prepend(HELPERS)


@contextmanager
def bounded() -> Iterator[None]:
    """Let what takes too much memory or time fail, which a damaged count must not make it take."""
    if sys.platform != "linux":
        yield
        return
    import resource

    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, limits[1]))
    previous = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(TIME_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _too_long(*_):
    raise UnnoticedError(f"it took more than {TIME_S} s")


def problems(name: str, folder: Path, seeds: range) -> Iterator[str]:
    """What was not as it should be, one text for each case."""
    from mutations import mutated

    subject, original = SUBJECTS[name], folder / "original"
    original.mkdir(parents=True)
    os.chdir(original)
    subject.make(original)
    victims = {path for pattern in subject.victims for path in original.glob(pattern) if path.is_file()}
    files = sorted(path.relative_to(original) for path in victims)
    expected = used(subject, folder, files[0])
    for seed in seeds:
        file = files[seed % len(files)]
        content = (original / file).read_bytes()
        try:
            with bounded():
                found = used(subject, folder, file, mutated(content, file.suffix, f"{name} {seed}"))
            problem = "other numbers than before" if found != expected else ""
        except AsecalcError as error:
            problem = f"a message that blames memory: {error}" if "out of memory" in str(error) else ""
        except Exception:
            problem = traceback.format_exc()
        if problem:
            yield f"{name}, {file}, seed {seed}: {problem}"


def used(subject: Subject, folder: Path, file: Path, content: bytes | None = None) -> object:
    """What comes out in a copy of the files, with another content of one of them."""
    copy = folder / "copy"
    os.chdir(folder)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / "original", copy)
    os.chdir(copy)
    if content is not None:
        file.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return subject.use(file)


@pytest.mark.parametrize("name", SUBJECTS)
def test_damaged_files_in_brief(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = list(problems(name, tmp_path, range(3)))
    assert not found, "\n\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", SUBJECTS)
def test_damaged_files(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = list(problems(name, tmp_path, range(FIRST, FIRST + MUTATIONS)))
    assert not found, "\n\n".join(found)
