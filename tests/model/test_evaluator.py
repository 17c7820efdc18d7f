"""Compiled models find what eager mode finds, are found again, and are never trusted."""

import json
import shutil
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from building import traced_in_place_of_compiled
from raising import told
from typer.testing import CliRunner

from asecalc_ml import MLCalculator, sources
from asecalc_ml.cli import ml
from asecalc_ml.errors import ModelError
from asecalc_ml.graph.atom_graph import AtomGraph
from asecalc_ml.model.compile import compiled_functions, package_cache
from asecalc_ml.model.compile.molecules.batches import FREQUENT
from asecalc_ml.model.compile.molecules.molecule_graph import molecule_input, molecule_program
from asecalc_ml.model.compile.package_cache import CHECK, MANIFEST, PACKAGE, CompilationError, PackageCache
from asecalc_ml.model.evaluator import Evaluator
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.store.registry import Registry
from asecalc_ml.store.stored_model import StoredModel
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import register_untrained, untrained_model

ETHANOL_SHAPE = (1, 9)  # one molecule of nine atoms


@pytest.fixture
def ethanol() -> Atoms:
    return load_structure("ethanol")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A cache that this file's tests share, since compiling takes its time."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def shared_cache(packages, monkeypatch, own_home):
    monkeypatch.setenv("XDG_CACHE_HOME", str(packages))
    return packages


@pytest.fixture
def compiled(tiny_model, shared_cache, ethanol) -> MLCalculator:
    """A small equivariant transformer, compiled for nine atoms by the first test that asks for it."""
    calculator = MLCalculator(tiny_model)
    calculator.prepare(ethanol)
    return calculator


@pytest.fixture
def morse(own_home) -> str:
    register_untrained("morse", Morse(cutoff_A=4.0), bulk("Si"), dtype=torch.float64)
    return "morse"


def graph_of(atoms: Atoms, cutoff: float = 5.0) -> AtomGraph:
    return AtomGraph.from_atoms(atoms, cutoff)


# -------------------------------------------------------------------------------------- the same numbers


def test_compiled_is_eager(compiled, tiny_model, ethanol):
    """For other positions, elements and distances too, atoms beyond the cutoff included."""
    eager = MLCalculator(tiny_model, compile="never")
    for seed, stretch in ((1, 1.0), (2, 1.0), (3, 2.5)):
        atoms = ethanol.copy()
        atoms.numbers = np.random.default_rng(seed).permutation(atoms.numbers)
        atoms.positions *= stretch
        atoms.rattle(0.1, seed=seed)
        expected = eager.get_potential_energy(atoms), eager.get_forces(atoms)
        assert compiled.get_potential_energy(atoms) == pytest.approx(expected[0], abs=1e-5)
        assert compiled.get_forces(atoms) == pytest.approx(expected[1], abs=1e-5)
    assert compiled._evaluator.compiled.shapes == [ETHANOL_SHAPE]
    assert eager._evaluator.compiled.shapes == []


def test_a_package_is_found_again_and_gives_the_same_bits(compiled, tiny_model, ethanol):
    again = MLCalculator(tiny_model)
    assert np.array_equal(again.get_forces(ethanol), compiled.get_forces(ethanol))
    assert again._evaluator.compiled.shapes == [ETHANOL_SHAPE]
    assert again._evaluator.compiled.n_compilations == 0


def test_identical_calls_give_identical_results(compiled, ethanol):
    forces = []
    for _ in range(30):
        compiled.reset()
        forces.append(compiled.get_forces(ethanol))
    assert all(np.array_equal(forces[0], one) for one in forces)


def test_a_crystal_is_compiled_once_in_a_run(morse, shared_cache):
    """The number of pairs changes from step to step, the shape does not, and padding changes nothing."""
    atoms = bulk("Si", cubic=True) * 2
    calculator, eager = MLCalculator(morse, compile="always"), MLCalculator(morse, compile="never")
    n_edges = set()
    for step in range(30):
        atoms.rattle(0.02, seed=step)
        graph = graph_of(atoms, 4.0)
        n_edges.add(graph.n_edges)
        expected = eager._evaluator.eagerly(graph)
        assert calculator.get_potential_energy(atoms) == pytest.approx(float(expected.energy[0]), abs=1e-9)
        assert calculator.get_forces(atoms) == pytest.approx(expected.forces.numpy(), abs=1e-10)
    assert len(n_edges) > 1
    assert len(calculator._evaluator.compiled.shapes) == 1


@pytest.mark.slow
def test_the_command_compiles_ahead_of_time(tiny_model, monkeypatch):
    """A calculator that comes later finds the package and makes none."""
    result = CliRunner().invoke(ml.app, ["compile", tiny_model, "--atoms", "ethanol"])
    assert result.exit_code == 0, result.output
    assert result.output.endswith("tiny is ready for 9 atoms (C2OH6)\n")
    monkeypatch.setattr(PackageCache, "build", lambda *args: pytest.fail("it compiles again"))
    atoms = load_structure("ethanol")
    atoms.calc = MLCalculator(tiny_model, compile="always")
    assert np.isfinite(atoms.get_forces()).all()
    assert atoms.calc._evaluator.compiled.shapes


@pytest.mark.slow
def test_compiling_leaves_the_process_as_it_was(tiny_model, ethanol):
    """In a process of its own, where no compiler has been imported yet."""
    code = """
import json, os
before = dict(os.environ)
import torch
state, threads = torch.get_rng_state(), torch.get_num_threads()
from asecalc_ml import MLCalculator
from asecalc_ml.model.pair_potentials import Morse
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing.models import register_untrained
ethanol = load_structure("ethanol")
register_untrained("morse", Morse(), ethanol)
MLCalculator("morse").prepare(ethanol)
print(json.dumps([before == dict(os.environ), torch.equal(state, torch.get_rng_state()),
                  torch.get_num_threads() == threads, str(torch.get_default_dtype())]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True, True, True, "torch.float32"]
    assert done.stderr == "compiling morse for 9 atoms, once on this machine: about a minute\n"


# ------------------------------------------------------------------------------------- the second process

FIRST_STEP = """
import time, sys, os
start = time.monotonic()
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from asecalc_ml import MLCalculator
atoms = molecule("CH3CH2OH")
atoms.calc = MLCalculator("NAME")
VelocityVerlet(atoms, 0.01).run(1)
heavy = ("torchmdnet", "torch._inductor", "torch._dynamo", "sympy", "lightning", "schnetpack")
print([name for name in heavy if name in sys.modules], time.monotonic() - start)
"""


def test_a_warm_start_imports_no_model_library_and_no_compiler(compiled, tiny_model):
    code = FIRST_STEP.replace("NAME", tiny_model)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")


@pytest.mark.slow
def test_a_warm_start_takes_four_seconds_at_most(shared_cache):
    """From the start of Python to the first step, with a model that ships; on an idle machine."""
    MLCalculator("torchmdnet-ethanol").prepare(molecule("CH3CH2OH"))
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", FIRST_STEP.replace("NAME", "torchmdnet-ethanol")], check=True)
    assert time.monotonic() - start < 4


# ------------------------------------------------------------------------------------------ never trusted


@pytest.fixture
def quick_compiler(compiled, tiny_model, monkeypatch) -> None:
    """Compiling takes the package that is there."""
    made = folder_of(tiny_model) / PACKAGE
    monkeypatch.setattr(package_cache, "write_package", lambda *arguments: shutil.copy(made, arguments[2]))


def folder_of(name: str):
    return PackageCache(StoredModel.find(name)).folder(ETHANOL_SHAPE)


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def wrong_answers(folder):
    """A package that works and was made for other weights, its hashes in order."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / CHECK)
    tensors["1.results.0"] += 1e-2
    save_file(tensors, folder / CHECK)
    hashes = {name: package_cache.file_hash(folder / name) for name in (PACKAGE, CHECK)}
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "sha256": hashes}))


def of_another_model(folder):
    """A whole package in the place of another one."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "model_hash": "0" * 64}))


DAMAGES = {
    "package changed": lambda folder: flip_a_byte(folder / PACKAGE),
    "package cut": lambda folder: (folder / PACKAGE).write_bytes((folder / PACKAGE).read_bytes()[:1000]),
    "package gone": lambda folder: (folder / PACKAGE).unlink(),
    "check changed": lambda folder: flip_a_byte(folder / CHECK),
    "check gone": lambda folder: (folder / CHECK).unlink(),
    "manifest is no JSON": lambda folder: (folder / MANIFEST).write_text("{"),
    "manifest without hashes": lambda folder: (folder / MANIFEST).write_text("{}"),
    "manifest with no hash": lambda folder: (folder / MANIFEST).write_text('{"sha256": {}}'),
    "wrong answers": wrong_answers,
    "another model's": of_another_model,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_package_is_removed(compiled, tiny_model, tmp_path, monkeypatch, damage):
    folder = folder_of(tiny_model)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "copy"))
    copy = folder_of(tiny_model)
    shutil.copytree(folder, copy)
    cache = PackageCache(StoredModel.find(tiny_model))
    assert cache.load(ETHANOL_SHAPE) is not None
    DAMAGES[damage](copy)
    assert cache.load(ETHANOL_SHAPE) is None
    assert not copy.exists()


def test_a_damaged_package_is_rebuilt(compiled, tiny_model, ethanol, tmp_path, quick_compiler, monkeypatch):
    expected = compiled.get_forces(ethanol)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert np.array_equal(MLCalculator(tiny_model, compile="always").get_forces(ethanol), expected)
    flip_a_byte(folder_of(tiny_model) / PACKAGE)
    for n_compilations in (1, 0):
        again = MLCalculator(tiny_model)
        assert np.array_equal(again.get_forces(ethanol), expected)
        assert again._evaluator.compiled.n_compilations == n_compilations


def test_packages_are_told_apart(tiny_model, own_home):
    """By whatever their machine code depends on."""

    def folder(**changes):
        return PackageCache(StoredModel.find(tiny_model, **changes)).folder(ETHANOL_SHAPE)

    before = torch.get_num_threads()
    folders = [folder(), folder(dtype="float64")]
    torch.set_num_threads(before + 1)
    try:
        folders.append(folder())
    finally:
        torch.set_num_threads(before)
    folders.append(PackageCache(StoredModel.find(tiny_model)).folder((1, 10)))
    register_untrained("other", Morse(), load_structure("ethanol"))
    folders.append(PackageCache(StoredModel.find("other")).folder(ETHANOL_SHAPE))
    assert len(set(folders)) == len(folders)
    assert folder() == folders[0]


def test_sources_of_every_model_are_complete():
    """What derivative and model import of this package is part of a package's name."""
    code = "import sys, asecalc_ml.model.derivative; print(*[m for m in sys.modules if 'asecalc_ml.' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {name.removeprefix("asecalc_ml.") for name in done.stdout.split()}
    geometry = {"graph.atom_graph", "graph.memory_left", "graph.padding", "graph.triplets"}
    geometry |= {name for name in imported if name.startswith(("graph.neighbors", "structure"))}
    messages = {name for name in imported if name.startswith(("config", "files"))}
    messages |= {"contracts", "errors", "units", "_checkout", "_lazy", "_moved"}
    packages = {"graph", "model", "model.compile", "model.heads", "runs", "targets"}
    numbers = imported - geometry - messages - packages
    assert {f"{name.replace('.', '/')}.py" for name in numbers} <= {*sources.CORE_SOURCES}


def test_sources_that_architectures_share_count(monkeypatch):
    """DTNN's radial basis lies beside its folder."""
    hashed = []
    monkeypatch.setattr(sources, "file_hash", lambda path: hashed.append(path.name) or path.name)
    sources._sources_of_model.__wrapped__("dtnn")  # without its cache
    assert {"radial_basis.py", "network.py", "model.py"} <= set(hashed)


# ------------------------------------------------------------------------------------ when it is compiled


@pytest.fixture
def builds(monkeypatch) -> list:
    """Shapes that were compiled, without the time that it takes."""
    monkeypatch.setattr(compiled_functions, "EDGES_BEFORE_COMPILING", 5 * compiled_functions.FEWEST_EDGES)
    return traced_in_place_of_compiled(monkeypatch)


def steps(calculator: MLCalculator, atoms: Atoms, n_steps: int) -> None:
    for step in range(n_steps):
        atoms.rattle(1e-3, seed=step)
        calculator.get_forces(atoms)


def test_auto_compiles_what_comes_again_and_again(tiny_model, ethanol, builds):
    calculator = MLCalculator(tiny_model)
    steps(calculator, ethanol, 4)
    steps(calculator, ethanol[:5], 4)
    assert builds == []
    steps(calculator, ethanol, 3)
    assert builds == [ETHANOL_SHAPE]


def test_auto_takes_a_package_that_is_there(tiny_model, ethanol, builds):
    steps(MLCalculator(tiny_model), ethanol, 5)
    steps(MLCalculator(tiny_model), ethanol, 1)
    assert len(builds) == 2  # here `load` finds nothing to load


def test_a_package_that_appears_during_a_run_is_left_alone(tiny_model, ethanol, builds):
    """A resumed run would otherwise not go as it would have gone."""
    first = MLCalculator(tiny_model)
    steps(first, ethanol, 2)
    MLCalculator(tiny_model, compile="always").get_forces(ethanol)
    steps(first, ethanol, 2)
    resumed = MLCalculator(tiny_model)
    resumed.restore_state(json.loads(json.dumps(first.checkpoint_state())))
    steps(resumed, ethanol, 1)
    assert first._evaluator.compiled.shapes == []
    assert resumed._evaluator.compiled.shapes == [ETHANOL_SHAPE]  # at its fifth call
    assert len(builds) == 2


def test_large_structures_are_compiled_sooner(morse, builds):
    """In proportion to their edges."""
    calculator, atoms = MLCalculator(morse), bulk("Si", cubic=True) * 2
    steps(calculator, atoms, 1)
    assert builds == [calculator._evaluator.compiled.shapes[0]]


def test_an_announced_run_is_compiled_before_its_first_step(tiny_model, ethanol, builds):
    short, long = MLCalculator(tiny_model), MLCalculator(tiny_model)
    short.expect(ethanol, 3)
    long.expect(ethanol, 4)
    steps(short, ethanol, 1)
    assert builds == []
    steps(long, ethanol, 1)
    assert builds == [ETHANOL_SHAPE]


def test_a_resumed_run_that_is_resumed_before_its_first_call_goes_the_same_way(compiled, tiny_model, ethanol):
    """A checkpoint holds the shapes of the run before it that were compiled, called again or not."""
    state = compiled.checkpoint_state()
    for _ in range(2):
        resumed = MLCalculator(tiny_model)
        resumed.restore_state(json.loads(json.dumps(state)))
        state = resumed.checkpoint_state()
    assert [list(shape) for shape in compiled._evaluator.compiled.shapes] == state["compiled"]
    resumed.get_forces(ethanol)
    assert resumed._evaluator.compiled.shapes == [ETHANOL_SHAPE]


@pytest.mark.parametrize("compile", ["never", "always"])
def test_never_and_always(tiny_model, ethanol, builds, compile):
    steps(MLCalculator(tiny_model, compile=compile), ethanol, 6)
    assert len(builds) == (compile == "always")


def test_many_molecules_are_compiled_in_few_shapes(tiny_model, ethanol, builds):
    """Sizes are rounded up unless there are many of one; what is not there changes nothing."""
    molecules = [ethanol, ethanol[:4], ethanol[:2], ethanol[:3], ethanol[:5], ethanol[:1]]
    calculator, eager = MLCalculator(tiny_model, compile="always"), MLCalculator(tiny_model, compile="never")
    results = calculator.calculate_many(molecules)
    assert builds == [(25, 4), (6, 8), (2, 12)]
    for atoms, of_molecule, expected in zip(molecules, results, eager.calculate_many(molecules), strict=True):
        assert of_molecule["energy"] == pytest.approx(expected["energy"], abs=1e-5)
        assert of_molecule["energies"] == pytest.approx(expected["energies"], abs=1e-5)
        assert of_molecule["forces"] == pytest.approx(expected["forces"], abs=1e-5)
        assert len(of_molecule["forces"]) == len(atoms)
    calculator.calculate_many(FREQUENT * [ethanol])
    assert builds[3:] == [(4, 9)]


def test_a_few_molecules_are_not_compiled(tiny_model, ethanol, builds, monkeypatch):
    monkeypatch.setattr(compiled_functions, "EDGES_BEFORE_COMPILING", 10_000)
    MLCalculator(tiny_model).calculate_many([ethanol, ethanol[:4]])
    assert builds == []


def test_a_crystal_among_molecules_keeps_its_place(morse, builds):
    structures = [Atoms("Si2", [[0, 0, 0], [0, 0, 2.2]]), bulk("Si"), Atoms("Si3", 2.3 * np.eye(3))]
    results = MLCalculator(morse, compile="always").calculate_many(structures)
    expected = [MLCalculator(morse, compile="never").get_forces(atoms) for atoms in structures]
    for of_structure, forces in zip(results, expected, strict=True):
        assert of_structure["forces"] == pytest.approx(forces, abs=1e-9)
    assert builds == [(25, 4)]


def test_a_resumed_calculator_goes_the_same_way(compiled, tiny_model, ethanol):
    """Compiled before it was stopped, compiled afterwards, although "never" would be the new one's way."""
    compiled.get_forces(ethanol)
    resumed = MLCalculator(tiny_model, compile="never")
    resumed.restore_state(json.loads(json.dumps(compiled.checkpoint_state())))
    ethanol.rattle(0.01, seed=99)
    assert np.array_equal(resumed.get_forces(ethanol), compiled.get_forces(ethanol))
    assert resumed._evaluator.compiled.shapes == [ETHANOL_SHAPE]


# ---------------------------------------------------------------------------------- what cannot be compiled


def test_without_a_compiler_it_is_eager_with_one_warning(own_home, ethanol, monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    register_untrained("morse", Morse(), ethanol)
    expected = MLCalculator("morse", compile="never").get_forces(ethanol)
    calculator = MLCalculator("morse", compile="always")
    with pytest.warns(UserWarning, match=r"eager mode, several times slower: .*install one, such as g\+\+"):
        found = calculator.get_forces(ethanol)
    assert np.array_equal(found, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(calculator, ethanol, 2)
    with pytest.raises(ModelError, check=told(name="morse", problem="C++", remedy="g++")):
        MLCalculator("morse").prepare(ethanol)


def test_a_model_in_memory_cannot_be_compiled(ethanol):
    model = untrained_model(Morse())
    with pytest.raises(ModelError, check=told(remedy="model file")):
        Evaluator(model).prepare(AtomGraph.from_atoms(ethanol, model.cutoff))


def test_an_architecture_that_looks_at_values_is_eager(own_home, ethanol, monkeypatch):
    register_untrained("morse", Morse(), ethanol)
    calculator = MLCalculator("morse", compile="always")
    potential = calculator._evaluator.model.potential
    plain = potential.pair_energy
    monkeypatch.setattr(
        potential, "pair_energy", lambda d: plain(d) if bool(d.min() > 0) else d, raising=True
    )
    with pytest.warns(UserWarning, match="cannot be compiled here for 9 atoms and continues in eager mode"):
        found = calculator.get_forces(ethanol)
    assert np.array_equal(found, MLCalculator("morse", compile="never").get_forces(ethanol))


def test_a_shape_that_cannot_be_compiled_leaves_others_compiled(compiled, tiny_model, ethanol, monkeypatch):
    calculator, without_one = MLCalculator(tiny_model, compile="always"), ethanol[:8]

    def fails(cache, program):
        raise CompilationError("no such luck")

    monkeypatch.setattr(PackageCache, "build", fails)
    with pytest.warns(UserWarning, match="for 8 atoms and continues in eager mode"):
        expected = calculator.get_forces(without_one)
    assert np.array_equal(calculator.get_forces(ethanol), compiled.get_forces(ethanol))
    assert calculator._evaluator.compiled.shapes == [ETHANOL_SHAPE]
    resumed = MLCalculator(tiny_model, compile="always")
    resumed.restore_state(json.loads(json.dumps(calculator.checkpoint_state())))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(resumed.get_forces(without_one), expected)


def test_a_model_file_that_is_replaced_is_noticed(own_home, tmp_path):
    """Where the weights are read later than the card: they would run under its name and its hash."""
    atoms, file = Atoms("Si2", [[0, 0, 0], [0, 0, 2.2]]), tmp_path / "model.safetensors"
    for name, depth in (("new", 1.0), ("old", 2.0)):
        register_untrained(name, Morse(depth_eV=depth, cutoff_A=4.0), atoms)
        shutil.copy(Registry().find(name).path, file)
    stored = StoredModel.find(file)
    shutil.copy(Registry().find("new").path, file)
    with pytest.raises(ModelError, check=told(problem="was replaced", remedy="make a new calculator")):
        _ = stored.model


@pytest.mark.parametrize("kind", ["float32", ">f8", "longdouble"])
def test_positions_of_another_type_are_converted(compiled, tiny_model, ethanol, kind):
    ethanol.arrays["positions"] = ethanol.positions.astype(kind)
    calculator = MLCalculator(tiny_model)
    for _ in range(3):
        ethanol.arrays["positions"] = (ethanol.positions + 0.001 * np.eye(9, 3)).astype(kind)
        plain = Atoms(ethanol.numbers, ethanol.positions.astype(float))
        assert np.array_equal(calculator.get_forces(ethanol), compiled.get_forces(plain))


def test_code_that_finds_something_else_is_refused(tiny_model, ethanol, monkeypatch):
    """The comparison with eager mode at first use, with a compiler that makes a mistake."""
    monkeypatch.setattr(package_cache, "write_package", lambda model, program, path, _: path.touch())

    def wrong(path, device):
        return lambda tensors: list(program.trace(untrained_model(Morse()))(*tensors))

    monkeypatch.setattr(package_cache, "load_package", wrong)
    cache = PackageCache(StoredModel.find(tiny_model))
    program = molecule_program(molecule_input(graph_of(ethanol)))
    with pytest.raises(CompilationError, check=told(problem="eager")):
        cache.build(program)
    assert not cache.has(ETHANOL_SHAPE)


def test_a_cache_that_cannot_be_written_is_no_hindrance(
    compiled, tiny_model, ethanol, tmp_path, quick_compiler, monkeypatch
):
    """The package is made, used, and made again next time, which a warning says."""
    (tmp_path / "file").write_text("in the way of a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        calculator = MLCalculator(tiny_model, compile="always")
        with pytest.warns(UserWarning, match=r"cannot be kept in .*file.*compiles again: set XDG_CACHE_HOME"):
            forces = calculator.get_forces(ethanol)
        assert np.array_equal(forces, compiled.get_forces(ethanol))
        assert calculator._evaluator.compiled.n_compilations == 1
    result = CliRunner().invoke(ml.app, ["compile", tiny_model])
    assert result.exit_code == 2
    assert "set XDG_CACHE_HOME" in " ".join(result.output.split())
    assert "is ready" not in result.output


# ------------------------------------------------------------------------------------------------ on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("compile", ["never", "always"])
@pytest.mark.parametrize("pbc", [False, True])
def test_cuda_finds_what_the_cpu_finds(tiny_model, ethanol, compile, pbc):
    """One structure after another through the same shape: a recorded graph must see each of them."""
    ethanol.set_cell([[5.5, 0, 0], [0.8, 5.0, 0], [-0.4, 0.6, 5.2]])
    ethanol.pbc = pbc
    on_cpu = MLCalculator(tiny_model, dtype="float64", compile="never")
    on_gpu = MLCalculator(tiny_model, dtype="float64", compile=compile, device="cuda")
    for seed in range(4):
        ethanol.rattle(0.05, seed=seed)
        assert on_gpu.get_potential_energy(ethanol) == pytest.approx(
            on_cpu.get_potential_energy(ethanol), abs=1e-8
        )
        assert on_gpu.get_forces(ethanol) == pytest.approx(on_cpu.get_forces(ethanol), abs=1e-7)
        assert on_gpu.get_stress(ethanol) == pytest.approx(on_cpu.get_stress(ethanol), abs=1e-9)


@pytest.mark.gpu
def test_a_cuda_package_is_found_again(tiny_model, ethanol):
    expected = MLCalculator(tiny_model, compile="always", device="cuda").get_forces(ethanol)
    again = MLCalculator(tiny_model, device="cuda")
    assert np.array_equal(again.get_forces(ethanol), expected)
    assert again._evaluator.compiled.n_compilations == 0


@pytest.mark.gpu
def test_a_cuda_graph_is_recorded(tiny_model, ethanol):
    """Without the warning that it could not be."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLCalculator(tiny_model, compile="always", device="cuda").get_forces(ethanol)


@pytest.mark.gpu
def test_many_structures_on_cuda(tiny_model, ethanol):
    structures = [ethanol, ethanol[:4], ethanol]
    found = MLCalculator(tiny_model, dtype="float64", device="cuda").calculate_many(structures)
    expected = MLCalculator(tiny_model, dtype="float64").calculate_many(structures)
    for one, other in zip(found, expected, strict=True):
        assert one["forces"] == pytest.approx(other["forces"], abs=1e-7)
