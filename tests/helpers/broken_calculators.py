"""An honest pair potential, and calculators that break one law each; for tests of the conformance suite."""

import math
import os

import numpy as np
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.geometry import complete_cell
from ase.stress import full_3x3_to_voigt_6_stress

R0_A, STEEPNESS_PER_A, CUTOFF_A = 1.3, 1.3, 4.2


class Honest(Calculator):
    """Morse pairs whose depth depends on the elements, with a cutoff function that is smooth twice."""

    name = "honest"
    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = self.answer(atoms)

    def answer(self, atoms) -> dict:
        """Results of a structure; what most of the broken ones change."""
        i, j, vectors = self.pairs(atoms)
        energies, gradient = self.pair_energies(atoms, i, j, vectors)
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, i, gradient)
        np.subtract.at(forces, j, gradient)
        atomic = np.bincount(i, energies, len(atoms))
        results = {"energy": float(atomic.sum()), "energies": atomic, "forces": forces}
        results["free_energy"] = results["energy"]
        if atoms.cell.rank == 3:
            virial = vectors.T @ gradient
            results["stress"] = full_3x3_to_voigt_6_stress((virial + virial.T) / 2 / self.volume(atoms))
        return results

    def volume(self, atoms) -> float:
        return atoms.get_volume()

    def pairs(self, atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centres, neighbors and the vectors between them, images included."""
        pbc = self.periodic(atoms)
        if not pbc.any():
            vectors = atoms.positions - atoms.positions[:, None]
            i, j = np.nonzero(np.einsum("ijk,ijk->ij", vectors, vectors) < CUTOFF_A**2)
            i, j = i[i != j], j[i != j]
            return i, j, vectors[i, j]
        cell = complete_cell(atoms.cell)
        positions, shifts = self.wrapped(atoms.positions, cell, pbc), self.images(cell, pbc)
        vectors = positions[None, :, None] - positions[:, None, None] + shifts @ cell
        squares = np.einsum("ijsk,ijsk->ijs", vectors, vectors)
        i, j, s = np.nonzero((squares < CUTOFF_A**2) & (squares > 0))
        return i, j, vectors[i, j, s]

    def periodic(self, atoms) -> np.ndarray:
        return atoms.pbc

    def wrapped(self, positions, cell, pbc):
        """Atoms put back into the cell, along its periodic vectors."""
        return positions - (np.floor(positions @ np.linalg.inv(cell)) * pbc) @ cell

    def images(self, cell, pbc) -> np.ndarray:
        heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        ranges = [np.arange(-n, n + 1) for n in np.where(pbc, (CUTOFF_A // heights).astype(int) + 1, 0)]
        return np.stack(np.meshgrid(*ranges), axis=-1).reshape(-1, 3)

    def pair_energies(self, atoms, i, j, vectors) -> tuple[np.ndarray, np.ndarray]:
        """Half the energy of each pair, eV, and its gradient with respect to the vector, eV/Å."""
        r = np.linalg.norm(vectors, axis=1)
        well, slope = self.morse(r)
        weight, fall = self.cutoff(r)
        depth = 0.5 * self.depth(atoms)[i] * self.depth(atoms)[j]
        return depth * well * weight, (depth * (slope * weight + well * fall) / r)[:, None] * vectors

    def depth(self, atoms) -> np.ndarray:
        return 0.5 + atoms.numbers / 16

    def morse(self, r):
        decay = np.exp(-STEEPNESS_PER_A * (r - R0_A))
        return (1 - decay) ** 2 - 1, 2 * STEEPNESS_PER_A * (1 - decay) * decay

    def cutoff(self, r):
        x = r / CUTOFF_A
        return 1 - x**3 * (10 - 15 * x + 6 * x**2), -30 * x**2 * (1 - x) ** 2 / CUTOFF_A

    def calculate_many(self, structures) -> list[dict]:
        return [self.answer(atoms) for atoms in structures]


# ------------------------------------------------------------------------------------------------- forces


class WrongSign(Honest):
    """The slope of the energy instead of minus the slope."""

    def answer(self, atoms):
        results = super().answer(atoms)
        return results | {"forces": -results["forces"]}


class WrongFactor(Honest):
    """Forces in another unit: half a per cent off, as with a rounded constant."""

    def answer(self, atoms):
        results = super().answer(atoms)
        return results | {"forces": 1.005 * results["forces"]}


class NonConservative(Honest):
    """Forces along the pairs that depend on the other neighbors, and belong to no energy."""

    def answer(self, atoms):
        results = super().answer(atoms)
        i, j, vectors = self.pairs(atoms)
        r = np.linalg.norm(vectors, axis=1)
        weight = self.cutoff(r)[0]
        crowd = np.bincount(i, weight, len(atoms))
        forces = results["forces"].copy()
        np.add.at(forces, i, (0.2 * weight * (crowd[i] + crowd[j]) / r)[:, None] * vectors)
        return results | {"forces": forces}


class Torque(Honest):
    """Pairs that also push across their axis, each atom against the other: no net force, and a torque."""

    def answer(self, atoms):
        results = super().answer(atoms)
        i, j, vectors = self.pairs(atoms)
        weight = self.cutoff(np.linalg.norm(vectors, axis=1))[0][:, None]
        crowd = np.zeros((len(atoms), 3))
        np.add.at(crowd, i, weight * vectors)
        across = np.cross(vectors, np.cross(vectors, crowd[i] - crowd[j]))
        forces = results["forces"].copy()
        np.add.at(forces, i, 0.15 * weight * across)
        return results | {"forces": forces}


class NoReaction(Honest):
    """Neighbors pull at an atom by their own element, and are not pulled back by the same."""

    def answer(self, atoms):
        results = super().answer(atoms)
        i, j, vectors = self.pairs(atoms)
        weight = self.cutoff(np.linalg.norm(vectors, axis=1))[0] * self.depth(atoms)[j]
        forces = results["forces"].copy()
        np.add.at(forces, i, 0.2 * weight[:, None] * vectors)
        return results | {"forces": forces}


# ------------------------------------------------------------------------------------------------- stress


class StressSign(Honest):
    """Pressure instead of stress."""

    def answer(self, atoms):
        results = super().answer(atoms)
        return results | {"stress": -results["stress"]} if "stress" in results else results


class VoigtOrder(Honest):
    """xx yy zz xy xz yz, as other programs have it."""

    def answer(self, atoms):
        results = super().answer(atoms)
        return results | {"stress": results["stress"][[0, 1, 2, 5, 4, 3]]} if "stress" in results else results


class SlabVolume(Honest):
    """A slab's stress over the volume of its atoms, not of its cell."""

    def volume(self, atoms):
        part = 1.0 if atoms.pbc.all() else 0.7
        return part * atoms.get_volume()


class StressFactor(Honest):
    """Each pair's virial counted twice."""

    def volume(self, atoms):
        return atoms.get_volume() / 2


class WithStresses(Honest):
    """Half of each pair's virial for each of its atoms."""

    implemented_properties = [*Honest.implemented_properties, "stresses"]  # noqa: RUF012

    def answer(self, atoms):
        results = super().answer(atoms)
        if atoms.cell.rank < 3:
            return results
        i, j, vectors = self.pairs(atoms)
        virials = np.zeros((len(atoms), 3, 3))
        products = vectors[:, :, None] * self.pair_energies(atoms, i, j, vectors)[1][:, None, :]
        np.add.at(virials, i, products / 2)
        np.add.at(virials, j, products / 2)
        return results | {"stresses": self.stresses(atoms, full_3x3_to_voigt_6_stress(virials))}

    def stresses(self, atoms, virials):
        return virials / self.volume(atoms)


class VolumeOfAnAtom(WithStresses):
    """Stresses of atoms whose mean, and not their sum, is the stress."""

    def stresses(self, atoms, virials):
        return virials / (self.volume(atoms) / len(atoms))


class FirstImage(WithStresses):
    """The right sum, given to the first atom alone."""

    def stresses(self, atoms, virials):
        return np.eye(len(atoms))[:, :1] * super().stresses(atoms, virials.sum(axis=0))


# --------------------------------------------------------------------------------------------- symmetries


class Anisotropic(Honest):
    """Pairs along z are stronger than others; forces and stress belong to that energy."""

    def pair_energies(self, atoms, i, j, vectors):
        energies, gradient = super().pair_energies(atoms, i, j, vectors)
        factor = 1 + 0.05 * vectors[:, 2] ** 2
        gradient = factor[:, None] * gradient
        gradient[:, 2] += 0.1 * vectors[:, 2] * energies
        return factor * energies, gradient


class Chiral(Honest):
    """Energies that differ between mirror images: (a × b) · c of three sums over an atom's neighbors."""

    def pair_energies(self, atoms, i, j, vectors):
        import torch

        energies, gradient = super().pair_energies(atoms, i, j, vectors)
        v = torch.from_numpy(vectors).requires_grad_()
        x = v.norm(dim=1) / CUTOFF_A
        smooth = 1 - x**3 * (10 - 15 * x + 6 * x**2)
        sums = [
            torch.zeros(len(atoms), 3, dtype=v.dtype).index_add(
                0, torch.from_numpy(i), (smooth * x**n)[:, None] * v
            )
            for n in (0, 2, 4)
        ]
        own = 0.5 * (torch.linalg.cross(sums[0], sums[1]) * sums[2]).sum(dim=1)
        (extra,) = torch.autograd.grad(own.sum(), v)
        self.chirality = own.detach().numpy()
        return energies, gradient + extra.numpy()

    def answer(self, atoms):
        results = super().answer(atoms)
        energies = results["energies"] + self.chirality
        total = float(energies.sum())
        return results | {"energies": energies, "energy": total, "free_energy": total}


class ByIndex(Honest):
    """Tells atoms apart by their index modulo four, as many as the test's molecule has."""

    def depth(self, atoms):
        return (
            super().depth(atoms) * (1 + 0.05 * (np.arange(len(atoms)) % 4))
            if len(atoms) > 3
            else super().depth(atoms)
        )


class SinglePositions(Honest):
    """Positions go through float32; the potential is as stiff as real bonds are."""

    def depth(self, atoms):
        return 1.5 * super().depth(atoms)

    def answer(self, atoms):
        copy = atoms.copy()
        copy.positions = atoms.positions.astype(np.float32)
        return super().answer(copy)


class SingleLeak(Honest):
    """Declares float64, and adds in float32."""

    default_parameters = {"dtype": "float64"}  # noqa: RUF012

    def answer(self, atoms):
        results = super().answer(atoms)
        total = float(np.float32(results["energy"]))
        return results | {"energy": total, "free_energy": total}


# ----------------------------------------------------------------------------------------------- periodic


class MinimumImage(Honest):
    """One image of each pair, the nearest."""

    def pairs(self, atoms):
        i, j, vectors = super().pairs(atoms)
        nearest = {}
        for k in np.argsort(-np.linalg.norm(vectors, axis=1)):
            nearest[i[k], j[k]] = k
        keep = sorted(nearest.values())
        return i[keep], j[keep], vectors[keep]


class NoOwnImages(Honest):
    """An atom does not see its own images."""

    def pairs(self, atoms):
        i, j, vectors = super().pairs(atoms)
        keep = i != j
        return i[keep], j[keep], vectors[keep]


class NotWrapped(Honest):
    """Images of the next cells only, for atoms wherever they are."""

    def wrapped(self, positions, cell, pbc):
        return positions


class AllPeriodic(Honest):
    """Periodic in one direction is periodic in three."""

    def periodic(self, atoms):
        return np.full(3, atoms.pbc.any())


# ---------------------------------------------------------------------------------------- few atoms, cutoff


class NeedsNeighbors(Honest):
    """Fails where no pair is within the cutoff."""

    def pairs(self, atoms):
        found = super().pairs(atoms)
        if len(found[0]) == 0:
            raise ValueError("zero-size array to reduction operation minimum which has no identity")
        return found


class MeanPooling(Honest):
    """The mean over atoms instead of the sum."""

    def depth(self, atoms):
        return super().depth(atoms) * np.sqrt(4 / len(atoms))


class HardCutoff(Honest):
    """The energy ends where it is."""

    def cutoff(self, r):
        return np.ones_like(r), np.zeros_like(r)


class ForceJump(Honest):
    """A cutoff function with a slope at its end: continuous energy, forces that jump."""

    def cutoff(self, r):
        x = r / CUTOFF_A
        return 1 - x, np.full_like(r, -1 / CUTOFF_A)


# -------------------------------------------------------------------------------------------------- state


class StaleCell(Honest):
    """Does not notice a change of the cell."""

    def check_state(self, atoms, tol=1e-15):
        return [change for change in super().check_state(atoms, tol) if change != "cell"]


class StaleElements(Honest):
    """Does not notice other elements at the same places."""

    def check_state(self, atoms, tol=1e-15):
        return [change for change in super().check_state(atoms, tol) if change != "numbers"]


class Tolerant(Honest):
    """Takes a small step for none."""

    def check_state(self, atoms, tol=1e-15):
        return super().check_state(atoms, 2e-5)


class FirstQuestion(Honest):
    """Leaves reference energies out unless the energy is asked for first."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if "energy" in properties:
            self.results["energy"] += 0.01 * len(atoms)

    def calculate_many(self, structures):
        found = super().calculate_many(structures)
        return [one | {"energy": one["energy"] + 0.01 * len(one["forces"])} for one in found]


class Random(Honest):
    """Sums in an order that changes from call to call."""

    random = np.random.default_rng(0)

    def answer(self, atoms):
        results = super().answer(atoms)
        return results | {"energy": results["energy"] + self.random.uniform(-1e-12, 1e-12)}


class WrongType(Honest):
    """The energy as an array of one number."""

    def answer(self, atoms):
        results = super().answer(atoms)
        return results | {"energy": np.array([results["energy"]])}


class SinglePrecisionArrays(Honest):
    """Energies of atoms in an array of float32."""

    def answer(self, atoms):
        results = super().answer(atoms)
        return results | {"energies": results["energies"].astype(np.float32)}


class SharedBuffer(Honest):
    """Forces always in the same array."""

    def get_property(self, name, atoms=None, allow_calculation=True):
        found = super().get_property(name, atoms, allow_calculation)
        if name != "forces":
            return found
        if getattr(self, "buffer", np.empty(0)).shape != found.shape:
            self.buffer = found
        self.buffer[:] = found
        return self.buffer


class MutatesInput(Honest):
    """Puts the atoms it is given back into their cell."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        if atoms.pbc.any():
            atoms.wrap()
        super().calculate(atoms, properties, system_changes)


class Annotates(Honest):
    """Leaves a note in the info of the atoms it is given."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        atoms.info["seen"] = True


class ChangesProcess(Honest):
    """Sets an environment variable for its own convenience."""

    def answer(self, atoms):
        os.environ["BROKEN_CALCULATOR"] = str(len(atoms) % 2)
        return super().answer(atoms)


class NeedsInfo(Honest):
    """Takes the charge from the info of the atoms, without asking whether it is there."""

    def answer(self, atoms):
        return super().answer(atoms) | {"charge": atoms.info["charge"]}


class WrongHessian(Honest):
    """Second derivatives of half the energy."""

    def get_hessian(self, atoms):
        steps = 1e-4 * np.eye(3 * len(atoms)).reshape(-1, len(atoms), 3)
        moved = [[self.answer(_at(atoms, sign * step))["forces"] for sign in (1, -1)] for step in steps]
        return np.array([(minus - plus).ravel() / 4e-4 for plus, minus in moved])


class PaddingLeak(Honest):
    """In a batch, smaller structures feel the atoms they are padded with."""

    def calculate_many(self, structures):
        largest = max(len(atoms) for atoms in structures)
        return [
            result | {"energy": result["energy"] + 1e-3 * (largest - len(atoms))}
            for atoms, result in zip(structures, super().calculate_many(structures), strict=True)
        ]


class Leak(Honest):
    """Keeps something of every call."""

    def __init__(self, **parameters):
        super().__init__(**parameters)
        self.kept = []

    def answer(self, atoms):
        self.kept.append(np.ones(2000))
        return super().answer(atoms)


def _at(atoms, displacement):
    moved = atoms.copy()
    moved.positions += displacement
    return moved


# ----------------------------------------------------------------------------- for tests of the suite itself


class Raising(Honest):
    """Fails in one place with an error, in another with NaN, and has no stress of a slab."""

    def answer(self, atoms):
        if atoms.pbc.all():
            raise RuntimeError("no\n convergence")
        if len(atoms) == 1:
            return {"energy": math.nan, "forces": np.zeros((1, 3))}
        return super().answer(atoms)

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        if "stress" in properties and not atoms.pbc.all():
            raise PropertyNotImplementedError("no stress of slabs")
        super().calculate(atoms, properties, system_changes)


class Picky(Honest):
    """Takes no structure at all."""

    def answer(self, atoms):
        raise KeyError("Xx")
