"""Calculators for tests of dynamics, named in options as "toy_calculators:Springs"."""

import os
import time
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones


class Springs(Calculator):
    """A spring between every two atoms, at rest in a molecule of ASE's g2: E = k/2 Σ (r − r₀)².

    It remembers nothing, so that the same positions always give the same bits.
    """

    name = "springs"
    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, molecule_name="H2O", stiffness=30.0):
        super().__init__()
        rest = molecule(molecule_name).positions
        self.first, self.second = np.triu_indices(len(rest), 1)
        self.lengths = np.linalg.norm(rest[self.second] - rest[self.first], axis=1)
        self.stiffness, self.calls = stiffness, 0

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        vectors = atoms.positions[self.second] - atoms.positions[self.first]
        distances = np.linalg.norm(vectors, axis=1)
        pulls = (self.stiffness * (1 - self.lengths / distances))[:, None] * vectors
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, self.first, pulls)
        np.subtract.at(forces, self.second, pulls)
        energy = 0.5 * self.stiffness * float(((distances - self.lengths) ** 2).sum())
        self.results = {"energy": energy, "forces": forces}


class SlowSprings(Springs):
    """Sleeps for $TOY_DELAY_S in every call, so that there is time to kill it."""

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        time.sleep(float(os.environ.get("TOY_DELAY_S", "0")))


class BreakingSprings(Springs):
    """Fails at call $TOY_BREAKS_AT, as $TOY_BREAKS_BY says: "nan", "infinite energy" or "error"."""

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if self.calls != int(os.environ.get("TOY_BREAKS_AT", "-1")):
            return
        how = os.environ.get("TOY_BREAKS_BY", "nan")
        if how == "error":
            raise RuntimeError("no convergence")
        if how == "infinite energy":
            self.results["energy"] = np.inf
        else:
            self.results["forces"][0, 0] = np.nan


class KilledSprings(Springs):
    """Ends the process, as far as a test can, at call $TOY_BREAKS_AT."""

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        if self.calls + 1 == int(os.environ.get("TOY_BREAKS_AT", "-1")):
            raise KeyboardInterrupt
        super().calculate(atoms, properties, system_changes)


class BatchedSprings(Springs):
    """Computes many structures together; the energy depends on the batch, as rounding makes it.

    Ends the process, as far as a test can, at batch $TOY_BREAKS_AT. Fails where a bond is longer than
    $TOY_LONGEST_A.
    """

    batches: ClassVar[list] = []  # numbers of structures, of all objects

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if atoms.get_all_distances().max() > float(os.environ.get("TOY_LONGEST_A", "inf")):
            raise RuntimeError("too long")

    def calculate_many(self, structures):
        structures = list(structures)
        self.batches.append(len(structures))
        if len(self.batches) == int(os.environ.get("TOY_BREAKS_AT", "-1")):
            raise KeyboardInterrupt
        together = type(self)(**self.arguments)
        results = []
        for k, atoms in enumerate(structures):
            together.calculate(atoms)
            energy = together.results["energy"] + 1e-9 * (100 * len(structures) + k)
            results.append(together.results | {"energy": energy})
        return results

    @property
    def arguments(self):
        return {"stiffness": self.stiffness}


class Model(Springs):
    """Springs that pass for a registered model."""

    @property
    def model_hash(self):
        return os.environ.get("TOY_HASH", "a" * 64)


class Remembering(Springs):
    """Its forces depend on how often it was called, so that a resumed run needs its state back."""

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["forces"] *= 1 + 1e-6 * (self.calls % 7)

    def checkpoint_state(self):
        return {"calls": self.calls}

    def restore_state(self, state):
        self.calls = state["calls"]


class Jumping(Springs):
    """Passes for a model without an envelope."""

    continuous = False


class IdealGas(Calculator):
    """No forces at all."""

    name = "ideal-gas"
    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


class ElasticCell(Calculator):
    """A cell with an energy of its own, V₀ (G e:e + λ/2 (tr e)²), e Green's strain; its atoms feel nothing.

    In rows, cell = edge F and e = (F Fᵀ − 1)/2, so that V σ = Fᵀ (∂E/∂e) F.
    """

    name = "elastic-cell"
    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, edge=5.0, shear=0.4, lame=0.3):
        super().__init__()
        self.edge, self.shear, self.lame, self.calls = edge, shear, lame, 0

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        deformation = atoms.cell.array / self.edge
        strain = (deformation @ deformation.T - np.eye(3)) / 2
        trace = np.trace(strain)
        energy = self.edge**3 * (self.shear * np.sum(strain**2) + self.lame / 2 * trace**2)
        conjugate = self.edge**3 * (2 * self.shear * strain + self.lame * trace * np.eye(3))
        stress = deformation.T @ conjugate @ deformation / atoms.get_volume()
        self.results = {
            "energy": energy,
            "forces": np.zeros((len(atoms), 3)),
            "stress": stress.ravel()[[0, 4, 8, 5, 2, 1]],
        }


class SlowCell(ElasticCell):
    """Sleeps for $TOY_DELAY_S in every call."""

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        time.sleep(float(os.environ.get("TOY_DELAY_S", "0")))


class Counted(SlowSprings):
    """Notes process and moment of every call, in $TOY_COUNTS/calls-RUN.txt where RUN is the locked folder."""

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        folder = os.environ.get("TOY_COUNTS")
        if folder:
            with Path(folder, f"calls-{running_in()}.txt").open("a") as file:
                file.write(f"{os.getpid()} {time.time()}\n")


def running_in() -> str:
    """Name of the run directory of this process, by the file it holds open."""
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = Path(os.readlink(link))
        except OSError:
            continue
        if target.name == ".lock":
            return target.parent.name
    return "none"


class SpinStates(Calculator):
    """Two wells of one bond: the singlet's at 1.4 Å, the triplet's 0.05 eV higher at 1.6 Å."""

    implemented_properties: ClassVar = ["energy", "forces"]
    default_parameters: ClassVar = {"spin": 0, "offset": 0.0}
    stiffness = 2.0  # eV/Å²

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        bond = self.atoms.positions[1] - self.atoms.positions[0]
        length = np.linalg.norm(bond)
        off = length - (1.6 if self.parameters.spin else 1.4)
        pull = 2 * self.stiffness * off * bond / length
        energy = self.stiffness * off**2 + 0.025 * self.parameters.spin + self.parameters.offset
        self.results = {"energy": energy, "forces": np.array([pull, -pull])}


class Stored(Calculator):
    """As many learned potentials: keywords go to ASE's base class, which stores them."""

    def __init__(self, model=None, device="cpu", **kwargs):
        super().__init__(**kwargs)
        self.shift = self.parameters.get("shift", 0.0)
        self.scale = kwargs.get("scale", 1.0)


class PassedOn(Calculator):
    """Keywords go where nobody can look."""

    def __init__(self, model=None, **kwargs):
        super().__init__()
        self.made = dict(**kwargs)


class Iterated(Calculator):
    """All parameters are read, whatever their names."""

    default_parameters: ClassVar = {"method": "PM7"}

    def text(self):
        return " ".join(f"{key}={value}" for key, value in self.parameters.items())


class Named(Calculator):
    """Reads what a list names, which may come from anywhere: here from a subclass."""

    names: ClassVar = ()

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


class Subscripted(Named):
    def chosen(self):
        return {name: self.parameters[name] for name in self.names}


class Gotten(Named):
    def chosen(self):
        return [self.parameters.get(name, 1) for name in self.names]


class Popped(Calculator):
    def __init__(self, names=(), **kwargs):
        self.chosen = [kwargs.pop(name, 1) for name in names]
        super().__init__(**kwargs)


class Tested(Named):
    def chosen(self):
        return [name for name in self.names if name in self.parameters]


class Filled(Named):
    """Writes entries by names that it computes, and reads none of them."""

    def fill(self):
        for name in self.names:
            self.parameters[name] = self.parameters["first"]


short_ranged = partial(LennardJones, rc=5)


def from_name(name="x", **kwargs):
    return Stored(**kwargs)
