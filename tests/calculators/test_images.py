"""Images of a path computed together: the same band as with a calculator for each image, in fewer calls."""

import copy
import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, fcc100, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read
from ase.mep import NEB, AutoNEB, DyNEB, NEBTools
from ase.mep.neb import NEBOptimizer
from ase.optimize import BFGS, FIRE

from asecalc_ml.calculators.batches.images import attach_to_images
from asecalc_ml.calculators.ml_calculator import MLCalculator
from asecalc_ml.errors import StructureError
from asecalc_ml.structure.loading import load_structure

N_IMAGES = 5
FMAX = 0.05


class BatchedEMT(EMT):
    """EMT that counts what it computes together, and alone."""

    def __init__(self):
        super().__init__()
        self.batches, self.n_alone = [], 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        self.n_alone += 1
        super().calculate(atoms, properties, system_changes)

    def calculate_many(self, structures):
        structures = list(structures)
        self.batches.append(len(structures))
        calculators = [EMT() for _ in structures]
        return [
            {"forces": emt.get_forces(atoms.copy()), "energy": emt.results["energy"]}
            for emt, atoms in zip(calculators, structures, strict=True)
        ]


def inversion(n_images: int = N_IMAGES) -> list[Atoms]:
    """Ammonia turned inside out."""
    first = molecule("NH3")
    first.calc = EMT()
    BFGS(first, logfile=None).run(fmax=1e-3, steps=200)
    last = first.copy()
    last.positions[:, 2] *= -1
    return [first.copy() for _ in range(n_images - 1)] + [last]


def hopping() -> list[Atoms]:
    """An atom that goes from hollow site to hollow site of a periodic slab, across the cell's boundary."""
    slab = fcc100("Al", size=(2, 2, 2))
    add_adsorbate(slab, "Au", 1.7, "hollow")
    slab.center(axis=2, vacuum=4.0)
    slab.set_constraint(FixAtoms([atom.index for atom in slab if atom.tag > 1]))
    first, last = slab.copy(), slab.copy()
    last.positions[-1] += slab.cell[0] / 2
    for end in (first, last):
        end.calc = EMT()
        BFGS(end, logfile=None).run(fmax=0.01, steps=200)
    last.wrap()
    return [first.copy() for _ in range(4)] + [last]


def together(images: list[Atoms]) -> BatchedEMT:
    calculator = BatchedEMT()
    attach_to_images(images, calculator)
    return calculator


def each_its_own(images: list[Atoms]) -> None:
    for image in images:
        image.calc = EMT()


def two_bands(images: list[Atoms], kind=NEB, interpolation: dict | None = None, **options) -> tuple:
    """The same band computed together and image by image, with the calculator of the first."""
    bands, calculator = [], None
    for attach in (together, each_its_own):
        own = [image.copy() for image in images]
        calculator = attach(own) or calculator
        band = kind(own, **{"method": "improvedtangent"} | options)
        band.interpolate(**{"method": "idpp"} | (interpolation or {}))
        bands.append(band)
    return *bands, calculator


def relax(band, optimizer=FIRE, steps: int = 25, fmax: float = FMAX) -> int:
    made = optimizer(band, logfile=None)
    made.run(fmax=fmax, steps=steps)
    return made.nsteps


def check_same(ours, theirs, tolerance: float = 1e-8) -> None:
    for image, other in zip(ours.images, theirs.images, strict=True):
        np.testing.assert_allclose(image.positions, other.positions, atol=tolerance)
        assert image.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=tolerance)
        np.testing.assert_allclose(image.get_forces(), other.get_forces(), atol=tolerance)


# ---------------------------------------------------------------------------------- the same, in fewer calls


@pytest.mark.parametrize(
    ("method", "climb"),
    [
        ("improvedtangent", True),
        ("improvedtangent", False),
        ("aseneb", True),
        ("eb", True),
        ("spline", False),
        ("string", False),
    ],
)
def test_a_band_is_that_of_separate_calculators(method, climb):
    ours, theirs, calculator = two_bands(inversion(), method=method, climb=climb)
    assert calculator.batches == []  # interpolation asks nothing
    n_steps = relax(ours)
    assert n_steps == relax(theirs)
    check_same(ours, theirs)
    assert calculator.batches == [N_IMAGES] + [N_IMAGES - 2] * n_steps  # ends once, inner images once a step
    assert calculator.n_alone == 0
    energies = [image.get_potential_energy() for image in ours.images]
    assert np.argmax(energies) == N_IMAGES // 2
    assert NEBTools(ours.images).get_barrier(fit=False)[0] == max(energies) - energies[0]


def test_a_periodic_slab_with_held_atoms():
    """The adsorbate crosses the boundary of the cell, so that interpolation needs minimum images."""
    across = {"method": "linear", "mic": True}
    ours, theirs, calculator = two_bands(hopping(), climb=True, interpolation=across)
    n_steps = relax(ours, BFGS)
    assert n_steps == relax(theirs, BFGS)
    check_same(ours, theirs)
    assert calculator.batches == [5] + [3] * n_steps
    held = ours.images[0].constraints[0].index
    assert (ours.images[2].positions[held] == ours.images[0].positions[held]).all()


def test_other_optimizers_and_rotations():
    ours, theirs, calculator = two_bands(inversion(), remove_rotation_and_translation=True)
    assert relax(ours, BFGS) == relax(theirs, BFGS)
    check_same(ours, theirs, 1e-7)
    ours, theirs, calculator = two_bands(inversion(), method="spline", precon="ID")
    relax(ours, NEBOptimizer, steps=10), relax(theirs, NEBOptimizer, steps=10)
    check_same(ours, theirs)
    assert max(calculator.batches[1:]) == N_IMAGES - 2
    assert calculator.n_alone == 0


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_dynamic_relaxation(scale):
    """ASE moves one image after the other there."""
    ours, theirs, calculator = two_bands(inversion(), DyNEB, fmax=FMAX, scale_fmax=scale)
    assert relax(ours) == relax(theirs)
    check_same(ours, theirs)
    assert calculator.n_alone + sum(calculator.batches) <= 3 * 25 + N_IMAGES


def test_images_that_are_asked_in_threads():
    ours, theirs, calculator = two_bands(inversion(), parallel=True)
    n_steps = relax(ours)
    assert n_steps == relax(theirs)
    check_same(ours, theirs)
    assert sum(calculator.batches) + calculator.n_alone == N_IMAGES + (N_IMAGES - 2) * n_steps


@pytest.mark.filterwarnings("ignore:The default method has changed")  # ASE's AutoNEB measures with it
def test_images_that_are_added_on_the_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, image in enumerate((inversion()[0], inversion()[-1])):
        image.calc = EMT()
        image.get_forces()
        image.write(f"band{number:03d}.traj")
    calculators = []
    band = AutoNEB(
        lambda images: calculators.append(together(images)),
        prefix="band",
        n_simul=1,
        n_max=5,
        fmax=0.1,
        maxsteps=20,
        climb=False,
        parallel=False,
        method="improvedtangent",
        interpolate_method="idpp",
        optimizer=FIRE,
    )
    images = band.run()
    assert len(images) == 5
    assert calculators


# ----------------------------------------------------------------------------------------------- a real path


def turned_hydroxyl(calculator: MLCalculator) -> list[Atoms]:
    """From one conformer of ethanol to the other: the hydroxyl group turns about the C-O bond."""
    first = load_structure("ethanol")
    last = first.copy()
    hydrogen = int(next(i for i in range(9) if first.symbols[i] == "H" and first.get_distance(i, 2) < 1.1))
    last.set_dihedral(0, 1, 2, hydrogen, first.get_dihedral(0, 1, 2, hydrogen) + 120, indices=[hydrogen])
    for end in (first, last):
        end.calc = calculator
        assert BFGS(end, logfile=None).run(fmax=0.1, steps=100)
    return [first.copy() for _ in range(4)] + [last.copy()]


def test_a_torsion_of_ethanol(monkeypatch):
    one = MLCalculator("torchmdnet-ethanol", dtype="float64", compile="never")
    path = turned_hydroxyl(one)
    sizes, calculate_many = [], MLCalculator.calculate_many

    def counted(self, structures):
        sizes.append(len(structures))
        return calculate_many(self, structures)

    def never(*_, **__):
        raise AssertionError("an image was computed alone")

    bands, n_steps = [], []
    for is_together in (True, False):
        images = [image.copy() for image in path]
        with monkeypatch.context() as patch:
            if is_together:
                patch.setattr(MLCalculator, "calculate_many", counted)
                patch.setattr(MLCalculator, "calculate", never)
                attach_to_images(images, one)
            else:
                for image in images:
                    image.calc = one
            shared = not is_together
            band = NEB(images, method="improvedtangent", climb=True, allow_shared_calculator=shared)
            band.interpolate("idpp")
            n_steps.append(relax(band, steps=12))
        bands.append(band)
    assert n_steps[0] == n_steps[1]
    assert sizes == [5] + [3] * n_steps[0]
    check_same(*bands, tolerance=1e-7)
    energies = [image.get_potential_energy() for image in bands[0].images]
    assert 0.02 < max(energies) - energies[0] < 0.4  # a barrier of the torsion, eV


# ---------------------------------------------------------------------------------------------- the interface


def test_a_calculator_that_loops_is_asked_as_often_as_before():
    images = inversion()
    calls, calculator = [], EMT()
    calculate = calculator.calculate
    calculator.calculate = lambda *arguments: (calls.append(1), calculate(*arguments))
    attach_to_images(images, calculator)
    band = NEB(images, method="improvedtangent")
    band.interpolate("idpp")
    n_steps = relax(band)
    assert len(calls) == N_IMAGES + (N_IMAGES - 2) * n_steps
    plain = two_bands(inversion())[1]
    relax(plain)
    check_same(band, plain)


def test_an_image_that_cannot_be_computed_says_so_itself(tiny_model):
    images = [load_structure("ethanol") for _ in range(4)]
    images[2].positions[0] = images[2].positions[1]
    calculator = MLCalculator(tiny_model, compile="never")
    attach_to_images(images, calculator)
    assert images[0].get_potential_energy() == pytest.approx(images[1].get_potential_energy())
    for _ in range(2):
        with pytest.raises(StructureError, match="Å apart"):
            images[2].get_forces()
    images[2].positions[:] = images[1].positions
    assert images[2].get_potential_energy() == pytest.approx(images[1].get_potential_energy())


def test_only_what_moved_is_computed():
    images = inversion(4)
    calculator = together(images)
    images[0].get_forces()
    images[1].rattle(0.01)
    images[3].info["charge"] = 1
    images[0].get_potential_energy()
    assert calculator.batches == [4]
    images[3].get_forces()
    assert calculator.batches == [4, 2]
    images[2].calc = EMT()
    images[2].rattle(0.01)
    images[1].rattle(0.01)
    images[0].rattle(0.01)
    images[0].get_forces()
    assert calculator.batches == [4, 2, 2]


def test_other_properties_and_structures():
    """A property that a batch does not give is computed when it is asked for."""
    images = hopping()
    together(images)
    plain = images[1].copy()
    plain.calc = EMT()
    assert images[1].get_potential_energies() == pytest.approx(plain.get_potential_energies())
    images[1].get_forces()
    other = images[1].copy()
    other.rattle(0.1)
    energy = images[1].calc.get_potential_energy(other)
    plain.positions = other.positions
    assert energy == pytest.approx(plain.get_potential_energy())
    assert images[1].get_potential_energy() != energy


def test_files_name_the_calculator_that_computed(tiny_model, tmp_path):
    images = [load_structure("ethanol") for _ in range(3)]
    images[1].rattle(0.01)
    calculator = MLCalculator(tiny_model, dtype="float64", compile="never")
    attach_to_images(images, calculator)
    band = NEB(images, method="improvedtangent")
    with FIRE(band, logfile=None, trajectory=str(tmp_path / "band.traj")) as optimizer:
        optimizer.run(fmax=0, steps=1)
    images[1].write(tmp_path / "image.traj")
    frame = read(tmp_path / "image.traj")
    assert frame.calc.name == calculator.name
    assert frame.calc.parameters == calculator.todict()
    assert len(read(tmp_path / "band.traj", ":")) == 6


def test_copies_are_bands_of_their_own():
    images = inversion(4)
    together(images)
    forces = images[1].get_forces()
    for copied in (copy.deepcopy(images), pickle.loads(pickle.dumps(images))):
        copied[1].rattle(0.1)
        copied[1].get_forces()
        assert (images[1].get_forces() == forces).all()
        assert copied[0].calc._batch is not images[0].calc._batch
