"""Every number of docs/silicon.md: errors, lattice and elastic constants, and the density at 300 K.

python docs/silicon.py errors  torchmdnet-si data/mlearn_si_test.json
python docs/silicon.py elastic torchmdnet-si data/mlearn_si_training.json data/mlearn_si_test.json
python docs/silicon.py npt     torchmdnet-si runs/si-npt.csv
"""

import sys
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.velocitydistribution import Stationary
from ase.optimize import BFGS
from matscipy.elasticity import fit_elastic_constants

from asecalc_ml import MLCalculator
from asecalc_ml.potentials.datasets import Mlearn
from asecalc_ml.potentials.training.evaluate import evaluate
from asecalc_ml.statistics.time_series import block_average, linear_drift
from asecalc_ml.store.model_file import read_model
from asecalc_ml.store.registry import Registry

TEMPERATURE_K = 300.0
TIMESTEP_FS = 2.0
THERMOSTAT_FS, BAROSTAT_FS = 200.0, 400.0
EQUILIBRATION_STEPS, STEPS = 500, 3500
G_CM3 = units._amu * 1e3 / 1e-24  # amu/Å³ in g/cm³


def read(paths) -> list[Atoms]:
    """Frames of all files."""
    return [atoms for path in paths for atoms in Mlearn(path=Path(path)).read()]


# ------------------------------------------------------------------------------------------------- errors


def errors(name: str, path: str) -> None:
    """Mean absolute and root mean square errors, for each kind of cell."""
    model, _ = read_model(Registry().find(name).path)
    frames = read([path])
    print("group     frames   energy, meV/atom     forces, meV/Å       stress, GPa     (MAE, RMSE)")
    for group in (*sorted({atoms.info["group"] for atoms in frames}), "all"):
        chosen = [atoms for atoms in frames if group in (atoms.info["group"], "all")]
        found = evaluate(model, chosen).metrics()
        print(
            f"{group:<10}{found.n_frames:>6}"
            f"{found.energy_mae_meV_atom:>10.2f}{found.energy_rmse_meV_atom:>10.2f}"
            f"{found.forces_mae_meV_A:>10.1f}{found.forces_rmse_meV_A:>10.1f}"
            f"{found.stress_mae_GPa:>10.3f}{found.stress_rmse_GPa:>10.3f}"
        )


# ---------------------------------------------------------------------------------------------- elasticity


def elastic(name: str, *paths: str) -> None:
    """Constants from the data's strained cells, from the model on the same cells, and from matscipy."""
    frames, calculator = read(paths), MLCalculator(name, dtype="float64")
    ground = next(atoms for atoms in frames if "Ground state" in atoms.info["description"])
    cells = [atoms for atoms in frames if atoms.info["group"] == "Elastic"]
    predicted = [atoms.copy() for atoms in cells]
    for atoms in predicted:
        atoms.calc = calculator
    stiffness, error = optical_stiffness(frames, ground)
    pressure = -ground.get_stress()[:3].mean() / units.GPa
    print(f"DFT: lattice constant {ground.cell[0, 0] / 2:.4f} Å, where the pressure is {pressure:+.3f} GPa")
    print(f"DFT: force constant of the optical mode at 300 K {stiffness:.2f} ± {error:.2f} eV/Å²")
    found = constants(cells, ground, stiffness)
    report("DFT, Elastic group", found)
    uncertainty = (found[2] - found[3]) * error / stiffness / units.GPa
    print(f"DFT: that force constant leaves ± {uncertainty:.1f} GPa in the relaxed C44")
    report("model, same cells", constants(predicted, ground, stiffness=None))
    crystal = relaxed(calculator)
    energy = crystal.get_potential_energy() / len(crystal)
    print(f"model: lattice constant {crystal.cell[0, 0]:.4f} Å, {energy:.4f} eV/atom")
    clamped, free = by_matscipy(crystal, None), by_matscipy(crystal, BFGS)
    report("model, matscipy", (free[0, 0], free[0, 1], clamped[3, 3], free[3, 3]))


def report(what: str, found) -> None:
    """One line: C11, C12, bulk modulus, C44 with atoms clamped and relaxed, in GPa."""
    c11, c12, clamped, free = (np.nan if value is None else value / units.GPa for value in found)
    print(
        f"{what:<20} C11 {c11:6.1f}  C12 {c12:5.1f}  B {(c11 + 2 * c12) / 3:5.1f}  "
        f"C44 clamped {clamped:5.1f}, relaxed {free:5.1f} GPa"
    )


def constants(cells, ground: Atoms, stiffness: float | None) -> tuple:
    """C11, C12, clamped and relaxed C44 (eV/Å³) from stress against Green-Lagrange strain.

    Slopes at zero strain of polynomials of fourth order through all cells of a mode; the mean of equivalent
    modes. Atoms of the cells have moved affinely. The relaxed C44 follows from the forces of the sheared
    cells and the force constant of the optical mode (Born and Huang): C44 = C44(clamped) - c² / (k Ω).
    """
    axial = [slopes(cells, ground, component) for component in range(3)]
    shear = [slopes(cells, ground, component) for component in range(3, 6)]
    c11 = np.mean([row[k] for k, row in enumerate(axial)])
    c12 = np.mean([row[j] for k, row in enumerate(axial) for j in range(3) if j != k])
    clamped = np.mean([row[k] for k, row in zip(range(3, 6), shear, strict=True)]) / 2
    if stiffness is None:
        return c11, c12, clamped, None
    coupling = np.mean([row[6] for row in shear]) / 2
    cell_volume = 2 * ground.get_volume() / len(ground)
    return c11, c12, clamped, clamped - coupling**2 / (stiffness * cell_volume)


def slopes(cells, ground: Atoms, component: int) -> np.ndarray:
    """Derivatives of the six stress components, and of the force on an atom, by one strain component."""
    strains = np.array([green_lagrange(atoms, ground) for atoms in cells])
    chosen = np.flatnonzero(np.abs(np.delete(strains, component, axis=1)).max(axis=1) < 1e-6)
    values = [[*cells[k].get_stress(), force_on_sublattice(cells[k], ground)] for k in chosen]
    return np.polyfit(strains[chosen, component], np.array(values), 4)[-2]


def green_lagrange(atoms: Atoms, ground: Atoms) -> np.ndarray:
    """Strain (FᵀF - 1)/2 of a cell, six components in Voigt order, without factors of two."""
    transposed = np.linalg.solve(ground.cell.array, atoms.cell.array)
    strain = (transposed @ transposed.T - np.eye(3)) / 2
    return strain[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def force_on_sublattice(atoms: Atoms, ground: Atoms) -> float:
    """Half the difference of mean forces on the two sublattices; under shear one component is not zero."""
    first = sublattice(ground)
    difference = atoms.get_forces()[first].mean(axis=0) - atoms.get_forces()[~first].mean(axis=0)
    return float(difference[np.abs(difference).argmax()] / 2)


def sublattice(ground: Atoms) -> np.ndarray:
    """Whether each atom lies on the face-centred lattice of the first one."""
    moved = (ground.positions - ground.positions[0]) / (ground.cell[0, 0] / 8)
    return np.rint(moved).sum(axis=1) % 4 == 0


def optical_stiffness(frames, ground: Atoms) -> tuple[float, float]:
    """Force constant of the zone centre's optical mode at 300 K (eV/Å²), and its error, from bulk dynamics.

    Forces between the sublattices against their displacement, through the origin.
    """
    chosen = [a for a in frames if a.info["group"] == "AIMD-NVT" and "at 300 K" in a.info["description"]]
    moves, forces = (np.ravel(values) for values in zip(*(optical(a, ground) for a in chosen), strict=True))
    stiffness = -(moves @ forces) / (moves @ moves)
    error = np.std(forces + stiffness * moves) / np.linalg.norm(moves)
    return float(stiffness), float(error)


def optical(atoms: Atoms, ground: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Displacement of one sublattice from the other, and the force between them."""
    sites, displacements = matched(atoms, ground)
    first, forces = sublattice(ground)[sites], atoms.get_forces()
    move, force = (v[first].mean(axis=0) - v[~first].mean(axis=0) for v in (displacements, forces))
    return move, force / 2


def matched(atoms: Atoms, ground: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """The site of each atom, and its displacement from there, whatever the order and the origin."""
    for site in range(len(ground)):
        shift = ground.positions[site] - atoms.positions[0]
        for _ in range(5):
            offsets = (atoms.positions + shift)[:, None] - ground.positions
            fractions = offsets @ np.linalg.inv(ground.cell.array)
            offsets = (fractions - np.rint(fractions)) @ ground.cell.array
            sites = np.square(offsets).sum(axis=2).argmin(axis=1)
            displacements = offsets[np.arange(len(atoms)), sites]
            shift = shift - displacements.mean(axis=0)
        if len(set(sites)) == len(atoms):
            return sites, displacements
    raise ValueError("this frame is no displaced crystal")


def relaxed(calculator) -> Atoms:
    """The crystal at the model's own lattice constant."""
    crystal = bulk("Si", cubic=True)
    crystal.calc = calculator
    BFGS(FrechetCellFilter(crystal, hydrostatic_strain=True), logfile=None).run(fmax=1e-6, steps=200)
    return crystal


def by_matscipy(crystal: Atoms, optimizer) -> np.ndarray:
    """Elastic constants (6, 6), eV/Å³, from strains up to 0.4 %, with atoms clamped or relaxed."""
    return fit_elastic_constants(
        crystal,
        symmetry="cubic",
        N_steps=5,
        delta=2e-3,
        optimizer=optimizer,
        verbose=False,
        graphics=False,
        fmax=1e-5,
    )[0]


# --------------------------------------------------------------------------------------- constant pressure


def npt(name: str, path: str) -> None:
    """512 atoms at 300 K and zero pressure: Langevin dynamics of atoms and volume, cubic cell."""
    atoms = relaxed(MLCalculator(name)) * (4, 4, 4)
    atoms.calc = MLCalculator(name, compile="always")
    rng = np.random.default_rng(0)
    thermal = np.sqrt(atoms.get_masses() * units.kB * 2 * TEMPERATURE_K)  # half goes into the bonds
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * thermal[:, None])
    Stationary(atoms)
    fs = units.fs
    dynamics = LangevinBAOAB(
        atoms,
        TIMESTEP_FS * fs,
        temperature_K=TEMPERATURE_K,
        externalstress=0.0,
        hydrostatic=True,
        T_tau=THERMOSTAT_FS * fs,
        P_tau=BAROSTAT_FS * fs,
        rng=rng,
    )
    rows = []
    for _ in dynamics.irun(EQUILIBRATION_STEPS + STEPS):
        rows.append([dynamics.get_time() / (1000 * fs), *state(atoms)])
    header = "time_ps,temperature_K,volume_A3,density_g_cm3,pressure_GPa"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, rows, delimiter=",", header=header, comments="", fmt="%.8g")
    summary(np.array(rows)[EQUILIBRATION_STEPS + 1 :], len(atoms))


def state(atoms: Atoms) -> tuple[float, ...]:
    """Temperature (K), volume (Å³), density (g/cm³) and pressure (GPa)."""
    volume = atoms.get_volume()
    stress = atoms.get_stress(include_ideal_gas=True)
    density = atoms.get_masses().sum() / volume * G_CM3
    return atoms.get_temperature(), volume, density, -stress[:3].mean() / units.GPa


def summary(rows: np.ndarray, n_atoms: int) -> None:
    """Means with block-average errors, drifts, and the bulk modulus that the volume's fluctuations give."""
    time, temperature, volume, density, pressure = rows.T
    for what, values in (
        ("temperature, K", temperature),
        ("density, g/cm³", density),
        ("pressure, GPa", pressure),
        ("lattice constant, Å", np.cbrt(8 * volume / n_atoms)),
    ):
        mean, drift = block_average(values), linear_drift(time, values)
        error = mean.note if mean.error is None else f"{mean.error:.5f}"
        slope = "too short" if drift.error is None else f"{drift.error:.5f}"
        print(f"{what:<20} {mean.mean:10.5f} ± {error}   drift {drift.slope:+.5f} ± {slope} per ps")
    modulus = units.kB * temperature.mean() * volume.mean() / volume.var() / units.GPa
    print(f"bulk modulus from the fluctuations of the volume {modulus:.0f} GPa")


if __name__ == "__main__":
    {"errors": errors, "elastic": elastic, "npt": npt}[sys.argv[1]](*sys.argv[2:])
