"""Make the samples again: python tests/samples/make_samples.py, in a checkout of the version they are of.

Files that a version has written are kept as they are: the samples are made once, before the code changes.
The folder's README.md says what each is. springs.py in it is kept, everything else is written anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ase.build import molecule
from ase.calculators.lj import LennardJones
from ase.io import write
from measured import measured

import asecalc_ml
from asecalc_ml.config import dump_yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent / f"version_{asecalc_ml.__version__.replace('.', '_')}"
SPRINGS = "springs:Springs"
ARCHIVED = ("interrupted", "uninterrupted", "finished", "campaign", "interrupted-training", "models")
CACHES = shutil.ignore_patterns("__pycache__")

#: Runs a command, and counts the calls of its calculator or ends it, as a power failure does, at one of them.
COUNTED = """
import atexit, os, pathlib, signal, sys
from asecalc_ml.calculators import make_calculator
kind = type(make_calculator({calculator!r}))
calculate, calls = kind.calculate, 0
def counted(self, *arguments, **keywords):
    global calls
    calls += 1
    if calls == {kill_at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return calculate(self, *arguments, **keywords)
kind.calculate = counted
atexit.register(lambda: pathlib.Path("calls").write_text(str(calls)))
from asecalc_ml.cli.md import app
app({arguments!r})
"""

SHORT = {
    "relax_fmax_eV_A": 1e-3, "equilibration_ps": 0.005, "timestep_fs": 0.5, "steps": 30, "write_every": 5,
    "thermo_every": 5, "checkpoint_every": 8,
}  # fmt: skip
NETWORK = {"hidden_channels": 8, "n_layers": 1, "n_rbf": 6, "cutoff_A": 4.0, "max_atomic_number": 9}
SCHNET = {"n_atom_basis": 8, "n_interactions": 1, "n_rbf": 6, "cutoff_A": 4.0, "max_atomic_number": 9}

#: Runs that were killed, after 80 % of their calls of the calculator.
INTERRUPTED = {
    "nve": {"protocol": "nve", "structure": "H2O", "calculator": SPRINGS, "seed": 1},
    "nvt-bussi-h5md": {
        "protocol": "nvt", "structure": "CH3CH2OH", "calculator": {SPRINGS: {"stiffness": 20.0}},
        "thermostat": "bussi", "trajectory_format": "h5md", "relax": False,
    },
    "nvt-nose-hoover-extxyz": {
        "protocol": "nvt", "structure": "H2O", "calculator": SPRINGS, "thermostat": "nose-hoover-chain",
        "trajectory_format": "extxyz", "relax": False,
    },
    "npt": {
        "protocol": "npt", "structure": "cell.xyz", "calculator": {"ase.calculators.lj:LennardJones":
        {"epsilon": 0.01, "sigma": 2.2, "rc": 3.9, "smooth": True}}, "pressure_GPa": 0.1, "relax": False,
    },
    "sequence": {
        "protocol": "sequence", "structure": "H2O", "calculator": SPRINGS, "steps": None, "relax": False,
        "write_every": 4, "thermo_every": 4,
        "sequence": [{"ensemble": "nvt", "steps": 16}, {"ensemble": "nve", "steps": 16}],
    },
    "andersen": {"protocol": "andersen", "structure": "H2O", "calculator": SPRINGS, "relax": False},
    "relax": {"protocol": "relax", "structure": "bent.xyz", "calculator": SPRINGS},
    "vibrations": {"protocol": "vibrations", "structure": "H2O", "calculator": SPRINGS},
    "scan": {
        "protocol": "scan", "structure": "CH3CH2OH", "calculator": SPRINGS, "coordinate": "C-O",
        "start": 1.3, "stop": 1.6, "points": 5, "relax": False,
        "more_calculators": [{SPRINGS: {"stiffness": 25.0}}, "painn"], "reference": "gfn2-xtb",
    },
    "transfer": {
        "protocol": "transfer", "structure": "H2O", "transfer_to": ["CH4"],
        "calculator": {SPRINGS: {"stiffness": 28.0}}, "reference": SPRINGS, "runs": 1,
        "reference_runs": 2, "steps": 12, "write_every": 4, "thermo_every": 4, "checkpoint_every": 5,
        "distributions": ["H-O", "C-H"],
    },
    "gfn2-xtb": {"protocol": "nve", "structure": "H2O", "calculator": "gfn2-xtb", "relax": False},
    "pyscf-dft": {
        "protocol": "nve", "structure": "H2", "steps": 4, "write_every": 1, "thermo_every": 1,
        "checkpoint_every": 2, "relax": False, "equilibration_ps": 0,
        "calculator": {"pyscf-dft": {"functional": "PBE", "basis": "sto-3g"}},
    },
    "corrected": {
        "protocol": "nve", "structure": "H2O", "calculator": {SPRINGS: {"corrections": ["zbl"]}},
        "relax": False,
    },
    "corrected-gfn2-xtb": {
        "protocol": "nve", "structure": "H2O", "calculator": {"gfn2-xtb": {"corrections": ["zbl"]}},
        "relax": False,
    },
    "model": {"protocol": "nve", "structure": "CH3CH2OH", "calculator": "painn", "relax": False},
    "committee": {
        "protocol": "nve", "structure": "CH3CH2OH", "relax": False,
        "calculator": {"committee": {"members": ["painn", "equivariant-transformer"]}},
    },
}  # fmt: skip


def make() -> None:
    """Write all samples."""
    for path in HERE.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    with TemporaryDirectory() as scratch:
        os.chdir(scratch)
        os.environ |= {"ASECALC_ML_HOME": str(HERE / "models"), "XDG_CACHE_HOME": f"{scratch}/cache"}
        os.environ |= {"PYTHONPATH": f"{ROOT}:{HERE}:{HERE}/plugin", "OMP_NUM_THREADS": "1"}
        write_structures()
        plugin = ROOT / "examples/plugin/asecalc_example"
        shutil.copytree(plugin, HERE / "plugin/asecalc_example", ignore=CACHES)
        make_metadata()
        sys.path.append(str(HERE / "plugin"))
        make_models()
        for name, options in INTERRUPTED.items():
            make_interrupted(name, options)
        make_finished()
        make_campaign()
        make_training()
        make_lists()
    neutralise()
    archive()


def write_structures() -> None:
    """Structures that are no names."""
    bent = molecule("H2O")
    bent.rattle(0.05, seed=1)
    write("bent.xyz", bent)
    from ase.build import bulk

    cell = bulk("Ar", "fcc", a=3.6, cubic=True) * 2
    cell.rattle(0.03, seed=1)
    write("cell.xyz", cell)


def child(code: str, status: int = 0) -> None:
    """Run Python code in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    if done.returncode != status:
        output = f"{done.stdout}{done.stderr}"
        raise SystemExit(f"status {done.returncode}, expected {status}:\n{code}\n{output}")


def command(app: str, *arguments: str) -> None:
    """One of the package's commands."""
    child(f"from asecalc_ml.cli.{app} import app; app({list(arguments)!r})")


def make_models() -> None:
    """Random weights: a model of the architectures that no shipped model has, and of a few that one has."""
    from asecalc_ml.model_file import save_model
    from asecalc_ml.plugins import get
    from asecalc_ml.registry import Registry
    from asecalc_ml.testing import untrained_card, untrained_model

    torch_geometric = {"basis_spacing_A": 0.5, "cutoff_A": 4.0, "max_atomic_number": 9}
    mpnn = {"hidden_channels": 8, "edge_channels": 4, "n_passes": 1, **torch_geometric}
    given = {
        "lennard-jones": {"epsilon_eV": 0.3, "sigma_A": 1.2, "cutoff_A": 4.0},
        "morse": {"cutoff_A": 4.0},
        "zbl": {"reach": 2.0},
        "equivariant-transformer": NETWORK | {"n_heads": 2},
        "graph-network": NETWORK,
        "painn": SCHNET,
        "so3net": SCHNET | {"lmax": 1},
        "cgcnn": {"hidden_channels": 8, "readout_channels": 6, "n_layers": 1, **torch_geometric},
        "dtnn": {
            "hidden_channels": 6, "n_factors": 6, "readout_channels": 5, "n_passes": 1, **torch_geometric
        },
        "mpnn": mpnn,
        "mpnn-transformer": mpnn | {"n_heads": 2},
        "ani": {
            "elements": ["H", "C", "O"], "cutoff_A": 4.0, "angular_cutoff_A": 3.0, "n_radial": 3,
            "n_angular_shifts": 1, "n_sections": 2, "hidden_channels": {"H": [4], "C": [4], "O": [4]},
        },
        "example-network": {"hidden_channels": 8, "n_layers": 1, "n_rbf": 6, "cutoff_A": 4.0},
    }  # fmt: skip
    ethanol = molecule("CH3CH2OH")
    for name, hyperparameters in given.items():
        options = get("architectures", name)(**hyperparameters)
        model = untrained_model(options)
        save_model(Path("one.safetensors"), model, untrained_card(name, options, model, ethanol))
        Registry().add(Path("one.safetensors"), name, False)


def make_interrupted(name: str, options: dict) -> None:
    """A run that was killed, and what it would have become."""
    from asecalc_ml.plugins import get

    known = get("protocols", options["protocol"]).model_fields
    options = {key: value for key, value in (SHORT | options).items() if key in known and value is not None}
    Path("job.yaml").write_text(dump_yaml(options))
    arguments = ["run", "job.yaml", "--quiet", "--directory", name]
    child(COUNTED.format(calculator=options["calculator"], kill_at=None, arguments=arguments))
    (HERE / "uninterrupted").mkdir(exist_ok=True)
    (HERE / f"uninterrupted/{name}.json").write_text(json.dumps(measured(Path(name))) + "\n")
    if name in ("scan", "transfer", "vibrations", "relax"):
        keep(name, HERE / "finished" / name, without=("model-1", "reference-1", "reference-2"))
    shutil.rmtree(name)
    kill_at = int(0.8 * int(Path("calls").read_text()))
    child(COUNTED.format(calculator=options["calculator"], kill_at=kill_at, arguments=arguments), -9)
    keep(name, HERE / "interrupted" / name)
    shutil.rmtree(name)


def make_finished() -> None:
    """Finished runs with results of many analyses; in one what explains a model's prediction, too."""
    analyses = [
        "bond-lengths", "angles", "dihedrals", "conformers", "radial-distribution", "energy-drift",
        "temperature", "connectivity",
    ]  # fmt: skip
    options = {
        "protocol": "nvt", "structure": "CH3CH2OH", "calculator": SPRINGS, "thermostat": "bussi",
        "steps": 160, "write_every": 4, "thermo_every": 4, "relax": False, "equilibration_ps": 0.01,
        "analyses": dict.fromkeys(analyses) | {"vibrational-density": {"resolution_per_cm": 600}},
    }  # fmt: skip
    Path("job.yaml").write_text(dump_yaml(options))
    command("md", "run", "job.yaml", "--quiet", "--directory", "nvt")
    methods = ("--method", "contributions,saliency")
    command("ml", "explain", "painn", "nvt", "--frames", "0:2", *methods, "--quiet")
    keep("nvt", HERE / "finished/nvt")
    options |= {"protocol": "nve", "structure": "H2O", "write_every": 2, "steps": 120}
    options["analyses"] = {"mean-square-displacement": {"directions": ["a", "b", "c"]}}
    del options["thermostat"]
    Path("job.yaml").write_text(dump_yaml(options))
    command("md", "run", "job.yaml", "--quiet", "--directory", "nve")
    keep("nve", HERE / "finished/nve")


def make_campaign() -> None:
    """A campaign of which one run is done, one was killed, and one has not begun."""
    base = {"protocol": "nve", "structure": "H2O", "calculator": SPRINGS, **SHORT, "relax": False}
    base |= {"analyses": {"energy-drift": None}}
    options = {"base": base, "grid": {"seed": [0, 1, 2]}, "directory": "campaign"}
    Path("campaign.yaml").write_text(dump_yaml(options))
    for seed in (0, 1):
        Path("job.yaml").write_text(dump_yaml(base | {"seed": seed}))
        arguments = ["run", "job.yaml", "--quiet", "--directory", f"campaign/seed={seed}"]
        if seed == 0:
            command("md", *arguments)
        else:
            child(COUNTED.format(calculator=SPRINGS, kill_at=33, arguments=arguments), -9)
    Path("campaign/campaign.json").write_text('{"failures": {"seed=1": ["no space left on device"]}}\n')
    keep("campaign", HERE / "campaign", reports=True)
    shutil.copy("campaign.yaml", HERE / "campaign/campaign.yaml")


def make_training() -> None:
    """A training that was killed after two of four epochs."""
    frames, random = [], np.random.default_rng(0)
    for _ in range(12):
        atoms = molecule("CH3CH2OH")
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = LennardJones(epsilon=0.1, sigma=1.2, rc=6)
        atoms.get_forces()
        frames.append(atoms)
    write("frames.xyz", frames, format="extxyz")
    options = {
        "name": "trained",
        "data": {"format": "ase", "path": "frames.xyz", "level_of_theory": "Lennard-Jones"},
        "split": {"n_train": 8, "n_validation": 2, "n_test": 2},
        "model": {"architecture": "schnet"} | SCHNET,
        "optimizer": {"warmup_steps": 2, "ema_decay": 0.9},
        "batch_size": 4,
        "max_epochs": 4,
        "precision": "float64",
        "directory": "training",
    }
    Path("train.yaml").write_text(dump_yaml(options))
    child(
        "import os, signal\n"
        "from asecalc_ml.potentials.training.loop import TrainingLoop\n"
        "epoch = TrainingLoop.train_epoch\n"
        "def train_epoch(self, number):\n"
        "    if number == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return epoch(self, number)\n"
        "TrainingLoop.train_epoch = train_epoch\n"
        "from asecalc_ml.cli.ml import app; app(['train', 'train.yaml', '--quiet'])",
        -9,
    )
    folder = HERE / "interrupted-training"
    keep("training", folder / "training")
    for name in ("train.yaml", "frames.xyz"):
        shutil.copy(name, folder / name)
    command("ml", "train", "train.yaml", "--quiet", "--replace")
    shutil.copy("training/metrics.csv", HERE / "uninterrupted/metrics.csv")
    # the registry's folder is that of the samples: the model that the uninterrupted training has registered


def make_lists() -> None:
    """Names of all modules, and import paths as they are documented."""
    rooms = {"potentials", "md_protocols", "analysis"}
    files = [path.relative_to(ROOT) for top in ("asecalc_ml", *rooms) for path in (ROOT / top).rglob("*.py")]
    parts = [("asecalc_ml" if path.parts[0] in rooms else "", *path.with_suffix("").parts) for path in files]
    modules = sorted(".".join(filter(None, one)).removesuffix(".__init__") for one in parts)
    (HERE / "modules.txt").write_text("\n".join(modules) + "\n")
    (HERE / "documented_imports.txt").write_text("\n".join(sorted(documented_imports())) + "\n")


def documented_imports() -> set[str]:
    """Lines "module name", or "module" alone, of the documentation, the examples and the plugin's tests."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")]
    pages += [*ROOT.glob("docs/*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/**/*.py")]
    found = set()
    for text in (page.read_text(encoding="utf-8") for page in pages):
        pattern = r"from (asecalc_ml[\w.]*) import (\([^)]*\)|[^\n#;]*)"
        for module, names in re.findall(pattern, text):
            words = (one.split(" as ")[0].strip(" ()`'\"") for one in names.replace("\n", " ").split(","))
            found |= {f"{module} {word}" for word in words if re.match("[a-zA-Z]", word)}
        found |= set(re.findall(r"^\s*import (asecalc_ml[\w.]*)", text, re.MULTILINE))
        for path in re.findall(r"(?<![/\w.])asecalc_ml(?:\.\w+)+", text):
            found |= as_import(path)
        for module, name in re.findall(r"\b(asecalc_ml(?:\.\w+)+):(\w+)", text):
            found |= as_import(f"{module}.{name}")
    return found


def as_import(path: str) -> set[str]:
    """A dotted path as "module name"; nothing for names of entry-point groups and what is only imagined."""
    try:
        import_module(path)
        return {path}
    except ImportError:
        module, _, name = path.rpartition(".")
    try:
        return {f"{module} {name}"} if hasattr(import_module(module), name) else set()
    except ImportError:
        return set()


def make_metadata() -> None:
    """What installations of the package and of the plugin leave beside it."""
    for source, name, version in (
        (ROOT / "setup.cfg", "asecalc-ml", asecalc_ml.__version__),
        (ROOT / "examples/plugin/setup.cfg", "asecalc-example", "1.0"),
    ):
        text = source.read_text(encoding="utf-8").partition("[options.entry_points]")[2]
        lines = [line for line in text.splitlines() if line.strip()]
        points = [f"\n[{one[:-1].strip()}]" if one.endswith("=") else one.strip() for one in lines]
        folder = HERE / ("plugin" if name != "asecalc-ml" else "installed")
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("\n".join(points).lstrip() + "\n")


def keep(name: str, target: Path, without: tuple[str, ...] = (), reports: bool = False) -> None:
    """Copy a folder without what is large or only of this machine."""
    left_out = [".lock", ".campaign.lock", *([] if reports else ["report.html"]), *without]
    shutil.copytree(name, target, ignore=shutil.ignore_patterns(*left_out))
    for page in target.rglob("report.html"):
        page.write_text("<!-- a report -->\n")  # a campaign looks at its age alone


def archive() -> None:
    """Pack what the versions wrote, a folder an archive: files that are never changed need not be seen."""
    for folder in (HERE / name for name in ARCHIVED):
        with tarfile.open(HERE / f"{folder.name}.tar.xz", "w:xz") as packed:
            packed.add(folder, folder.name, filter=_of_nobody)
        shutil.rmtree(folder)
    print(sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file()), "bytes")


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def neutralise() -> None:
    """Put neutral names in place of those of this machine."""
    for path in HERE.rglob("*.json"):
        data = json.loads(path.read_text())
        if path.name == "provenance.json":
            data["machine"] = {"platform": "Linux", "cpu": "a processor"}
            data["module_folders"] = []
            path.write_text(json.dumps(data, indent=2) + "\n")
    for path in HERE.rglob("*"):
        if path.is_file() and (b"/tmp/" in path.read_bytes() or str(ROOT).encode() in path.read_bytes()):
            print(f"{path} names a folder of this machine")
    for cache in HERE.rglob("__pycache__"):
        shutil.rmtree(cache)


if __name__ == "__main__":
    make()
