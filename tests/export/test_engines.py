"""Our calculators in OpenMM and i-PI, with the results that ASE gives; CHGNet in our protocols."""

import json
import re
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.socketio import SocketClient
from ase.io import read, write
from ase.md.verlet import VelocityVerlet
from typer.testing import CliRunner

from asecalc_ml import MLCalculator
from asecalc_ml._checkout import ROOT
from asecalc_ml.calculators.factory import make_calculator
from asecalc_ml.cli import md
from asecalc_ml.config import read_yaml
from asecalc_ml.structure.loading import load_structure

EV = units.kJ / units.mol  # of 1 kJ/mol
EV_PER_A = EV / 10  # of 1 kJ/mol/nm
TIMESTEP_FS = 0.5


@pytest.fixture
def ethanol():
    atoms = load_structure("ethanol")
    atoms.rattle(0.05, seed=1)
    atoms.calc = MLCalculator("torchmdnet-ethanol", dtype="float64", compile="never")
    return atoms


@pytest.fixture
def silicon():
    """A triclinic cell, oriented as OpenMM and i-PI need it; one atom lies outside."""
    atoms = bulk("Si") * (2, 2, 2)
    atoms.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)
    atoms.rattle(0.05, seed=1)
    atoms.positions[3] += 2 * atoms.cell[0]
    atoms.calc = MLCalculator("torchmdnet-si", dtype="float64", compile="never")
    return atoms


# ------------------------------------------------------------------------------------------------- OpenMM


@pytest.fixture
def openmm():
    pytest.importorskip("openmmml", reason="needs OpenMM-ML: pip install 'asecalc-ml[engines]'")
    return pytest.importorskip("openmm", reason="needs OpenMM: pip install 'asecalc-ml[engines]'")


@pytest.fixture(params=["Reference", "CPU"])
def platform(request, openmm):
    return openmm.Platform.getPlatformByName(request.param)


def twin_of(atoms):
    """A copy that OpenMM may move, with the same calculator."""
    copy = atoms.copy()
    copy.calc = atoms.calc
    return copy


def topology_of(atoms):
    """One residue, with the cell as the box where the structure is periodic."""
    from openmm.app import Element, Topology

    topology = Topology()
    residue = topology.addResidue("STR", topology.addChain())
    for symbol in atoms.symbols:
        topology.addAtom(symbol, Element.getBySymbol(symbol), residue)
    if atoms.pbc.all():
        topology.setPeriodicBoxVectors(atoms.cell.array / 10)
    return topology


def system_of(topology, **arguments):
    from openmmml import MLPotential

    return MLPotential("ase").createSystem(topology, **arguments)


def context_of(system, atoms, platform):
    import openmm

    context = openmm.Context(system, openmm.VerletIntegrator(TIMESTEP_FS / 1000), platform)
    context.setPositions(atoms.positions / 10)
    return context


def energy_and_forces(context):
    """In eV and eV/Å."""
    from openmm.unit import kilojoule_per_mole, nanometer

    state = context.getState(energy=True, forces=True)
    energy = state.getPotentialEnergy().value_in_unit(kilojoule_per_mole)
    forces = state.getForces(asNumpy=True).value_in_unit(kilojoule_per_mole / nanometer)
    return energy * EV, forces * EV_PER_A


def check_same(context, atoms):
    energy, forces = energy_and_forces(context)
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    assert forces == pytest.approx(atoms.get_forces(), abs=1e-10)


@pytest.mark.parametrize("structure", ["ethanol", "silicon"])
@pytest.mark.parametrize("way", ["calculator", "aseAtoms"])
def test_openmm_has_our_energy_and_forces(structure, way, platform, request):
    atoms = request.getfixturevalue(structure)
    given = {"calculator": atoms.calc} if way == "calculator" else {"aseAtoms": twin_of(atoms)}
    system = system_of(topology_of(atoms), **given)
    assert system.usesPeriodicBoundaryConditions() == atoms.pbc.all()
    check_same(context_of(system, atoms, platform), atoms)


def test_openmm_follows_a_changed_box(silicon, platform):
    """As a barostat changes it: the box of the context is the one that counts."""
    context = context_of(system_of(topology_of(silicon), calculator=silicon.calc), silicon, platform)
    silicon.set_cell(silicon.cell.array * [[1.02], [1.0], [0.97]], scale_atoms=True)
    context.setPeriodicBoxVectors(*silicon.cell.array / 10)
    context.setPositions(silicon.positions / 10)
    check_same(context, silicon)


def test_openmm_without_a_box_in_the_topology_takes_its_own(silicon, openmm):
    """What docs/engines.md warns of: OpenMM's default box is a cube of 2 nm."""
    topology = topology_of(silicon)
    topology.setPeriodicBoxVectors(None)
    system = system_of(topology, aseAtoms=twin_of(silicon))
    platform = openmm.Platform.getPlatformByName("Reference")
    assert energy_and_forces(context_of(system, silicon, platform))[0] > silicon.get_potential_energy() + 1


def test_openmm_moves_atoms_as_ase_does(ethanol, openmm):
    """Leapfrog from v(−Δt/2) passes through the positions of velocity Verlet from v(0)."""
    system = system_of(topology_of(ethanol), calculator=ethanol.calc, removeCMMotion=False)
    ethanol.set_masses([system.getParticleMass(i)._value for i in range(len(ethanol))])
    step = TIMESTEP_FS * units.fs
    velocities = np.random.default_rng(1).normal(scale=0.02, size=(len(ethanol), 3))
    before = velocities - step / 2 * ethanol.get_forces() / ethanol.get_masses()[:, None]
    context = context_of(system, ethanol, openmm.Platform.getPlatformByName("Reference"))
    context.setVelocities(before * 1000 * units.fs / 10)  # nm/ps
    ethanol.set_velocities(velocities)
    energies = []
    dynamics = VelocityVerlet(ethanol, step)
    for _ in range(10):
        dynamics.run(4)
        context.getIntegrator().step(4)
        state = context.getState(energy=True, positions=True)
        positions = state.getPositions(asNumpy=True)._value * 10
        assert positions == pytest.approx(ethanol.positions, abs=1e-7)
        total = (state.getPotentialEnergy() + state.getKineticEnergy())._value * EV
        energies.append((total, ethanol.get_total_energy(), ethanol.get_potential_energy()))
    spread, spread_in_ase, spread_of_potential = np.ptp(energies, axis=0)
    assert spread == pytest.approx(spread_in_ase, rel=0.01)
    assert spread < spread_of_potential / 20


def test_openmm_keeps_spin_only_where_info_is_given(openmm):
    """What docs/engines.md warns of: OpenMM-ML makes Atoms of its own, without info and initial moments."""
    GFN2 = pytest.importorskip(
        "asecalc_ml.calculators.xtb", reason="pip install 'asecalc-ml[reference]'"
    ).GFN2
    oxygen = molecule("O2")
    oxygen.calc = GFN2()
    triplet = oxygen.get_potential_energy()
    platform = openmm.Platform.getPlatformByName("Reference")
    given = [
        {"aseAtoms": twin_of(oxygen)},
        {"calculator": GFN2(), "info": {"spin": 2}},
        {"calculator": GFN2()},
    ]
    contexts = [
        context_of(system_of(topology_of(oxygen), **arguments), oxygen, platform) for arguments in given
    ]
    energies = [energy_and_forces(context)[0] for context in contexts]
    assert energies[:2] == pytest.approx([triplet, triplet], abs=1e-6)
    assert abs(energies[2] - triplet) > 0.05


def test_openmm_takes_only_reduced_cells(silicon, openmm):
    """And refuses others, so that no energy is wrong; docs/engines.md says what to do."""
    from openmm.app.internal.unitcell import reducePeriodicBoxVectors

    topology = topology_of(silicon)
    with pytest.raises(ValueError, match="must be parallel to x"):
        topology_of(bulk("Si"))
    silicon.cell[1] += silicon.cell[0]  # the same lattice
    with pytest.raises(ValueError, match="must be in reduced form"):
        topology_of(silicon)
    topology.setPeriodicBoxVectors(reducePeriodicBoxVectors(silicon.cell.array / 10))
    system = system_of(topology, calculator=silicon.calc)
    check_same(context_of(system, silicon, openmm.Platform.getPlatformByName("Reference")), silicon)


def test_openmm_shows_our_message(openmm):
    thiol = molecule("CH3SH")
    calculator = MLCalculator("torchmdnet-ethanol", compile="never")
    context = context_of(
        system_of(topology_of(thiol), calculator=calculator), thiol, openmm.Platform.getPlatformByName("CPU")
    )
    with pytest.raises(Exception, match="was not trained on S"):
        context.getState(energy=True)


def test_a_system_file_of_openmm_names_the_model_with_its_hash(ethanol, platform, openmm):
    system = system_of(topology_of(ethanol), calculator=ethanol.calc)
    again = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    check_same(context_of(again, ethanol, platform), ethanol)
    assert ethanol.calc.todict()["model"].encode().hex() in openmm.XmlSerializer.serialize(system)


# --------------------------------------------------------------------------------------------------- i-PI

INPUT = """
<simulation verbosity='low'>
  <output prefix='out'>
    <properties filename='properties' stride='1'>{properties}</properties>
    <trajectory filename='positions' stride='1' format='ase'>positions{{ase}}</trajectory>
    <trajectory filename='forces' stride='1' format='ase'>forces{{ase}}</trajectory>
  </output>
  <total_steps>{steps}</total_steps>
  <prng><seed>1</seed></prng>
  <ffsocket name='asecalc-ml' mode='unix' pbc='{pbc}'><address>{name}</address></ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='ase'>start.xyz</file>
      <velocities mode='thermal' units='kelvin'>300</velocities>
    </initialize>
    <forces><force forcefield='asecalc-ml'/></forces>
    <ensemble><temperature units='kelvin'>300</temperature></ensemble>
    <motion mode='dynamics'>
      <dynamics mode='{ensemble}'>
        <timestep units='femtosecond'>0.25</timestep>
        {thermostat}
      </dynamics>
    </motion>
  </system>
</simulation>
"""
PILE = "<thermostat mode='pile_l'><tau units='femtosecond'>100</tau></thermostat>"


@pytest.fixture
def i_pi():
    program = shutil.which("i-pi", path=Path(sys.executable).parent) or shutil.which("i-pi")
    if program is None:
        pytest.skip("needs i-PI: pip install 'asecalc-ml[engines]'")
    return program


class Server:
    """A running i-PI with one socket, ended with the block."""

    def __init__(self, program, folder, name):
        self.socket, self.log = Path(f"/tmp/ipi_{name}"), folder / "i-pi.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen([program, "input.xml"], cwd=folder, stdout=log, stderr=log)

    def __enter__(self):
        deadline = time.monotonic() + 60
        while not self.socket.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)


def client_of(name: str) -> SocketClient:
    """A client of the socket, which i-PI binds before it listens."""
    for _ in range(100):
        try:
            return SocketClient(unixsocket=name, timeout=60)
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise TimeoutError(f"i-PI does not listen to {name}")


def run_i_pi(program, folder, atoms, use_stress=False, **options):
    """Run i-PI with the calculator of the atoms as its client, and return its table of properties."""
    name = f"asecalc-{uuid.uuid4().hex}"
    write(folder / "start.xyz", atoms)
    (folder / "input.xml").write_text(INPUT.format(name=name, pbc=bool(atoms.pbc.all()), **options))
    with Server(program, folder, name) as server:
        client_of(name).run(atoms, use_stress=use_stress)
        assert server.process.wait(60) == 0, server.log.read_text()
    return np.loadtxt(folder / "out.properties", ndmin=2)


def of_beads(folder, quantity, beads):
    """What i-PI wrote for each bead, shape (n_steps, n_beads, n_atoms, 3)."""
    files = [read(folder / f"out.{quantity}_{bead}.extxyz", ":") for bead in range(beads)]
    read_from = f"get_{quantity}"
    return np.array([[getattr(frame, read_from)() for frame in step] for step in zip(*files, strict=True)])


def test_a_path_integral_run_of_i_pi(ethanol, i_pi, tmp_path):
    ethanol.cell = [50, 50, 50]
    table = run_i_pi(
        i_pi, tmp_path, ethanol, properties="[potential{ase}, conserved{ase}, potential{electronvolt}]",
        steps=20, beads=4, ensemble="nvt", thermostat=PILE,
    )  # fmt: skip
    potential, conserved, rounded = table.T
    positions, forces = of_beads(tmp_path, "positions", 4), of_beads(tmp_path, "forces", 4)
    frames = [Atoms(ethanol.symbols, one) for one in positions.reshape(-1, len(ethanol), 3)]
    ours = ethanol.calc.calculate_many(frames)
    assert forces == pytest.approx(np.reshape([one["forces"] for one in ours], forces.shape), abs=1e-5)
    energies = np.reshape([one["energy"] for one in ours], (21, 4))
    assert potential == pytest.approx(energies.mean(axis=1), abs=1e-5)  # nine digits are written
    assert abs(rounded - potential).max() > 1e-4  # docs/engines.md warns of this unit
    assert np.ptp(potential) > 0.2
    assert np.ptp(conserved) < 0.01 * np.ptp(potential)
    assert np.ptp(positions[-1], axis=0).max() > 1e-3  # the beads have moved apart


@pytest.mark.parametrize("use_stress", [True, False])
def test_i_pi_has_our_virial_where_stress_is_asked_for(silicon, i_pi, tmp_path, use_stress):
    """SocketClient.run sends zeros by default, and i-PI takes them for the virial."""
    table = run_i_pi(
        i_pi, tmp_path, silicon, use_stress, steps=2, beads=1, ensemble="nve", thermostat="",
        properties="[potential{ase}, kinetic_md{ase}, pressure_md]",
    )  # fmt: skip
    potential, kinetic, pressure = table[-1]
    assert potential == pytest.approx(silicon.get_potential_energy(), abs=1e-6)
    volume = silicon.get_volume()
    virial = -volume * silicon.get_stress()[:3].sum() if use_stress else 0
    assert pressure * units.Hartree / units.Bohr**3 == pytest.approx((2 * kinetic + virial) / (3 * volume))


# ------------------------------------------------------------------------------------------------- CHGNet


@pytest.fixture
def chgnet_yaml(tmp_path):
    """The YAML file that docs/engines.md shows."""
    pytest.importorskip("chgnet", reason="needs CHGNet: pip install chgnet")
    page = ROOT / "docs" / "engines.md"
    if not page.is_file():
        pytest.skip("docs are part of the checkout alone")
    shown = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    file = tmp_path / "npt.yaml"
    file.write_text(next(text for text in shown if "chgnet" in text))
    return file


def test_the_run_with_chgnet_that_the_docs_show(chgnet_yaml, tmp_path):
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    write(tmp_path / "silicon.xyz", atoms)
    shorter = ["--structure", str(tmp_path / "silicon.xyz"), "--steps=10", "--equilibration-ps=0.005"]
    command = ["run", str(chgnet_yaml), *shorter, "--directory", str(tmp_path / "run"), "--quiet"]
    result = CliRunner().invoke(md.app, command)
    assert result.exit_code == 0, result.output
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert provenance["calculator"]["class"] == "chgnet.model.dynamics:CHGNetCalculator"
    assert "chgnet" in provenance["versions"]
    frames = read(tmp_path / "run" / "trajectory.traj", ":")
    assert len({frame.get_volume() for frame in frames}) > 1
    last = frames[-1]
    fresh = make_calculator(read_yaml(chgnet_yaml)["calculator"])
    assert fresh.get_potential_energy(last) == pytest.approx(last.get_potential_energy(), abs=1e-4)


def test_the_stress_of_chgnet_is_the_slope_of_its_energy(chgnet_yaml):
    """A wrong unit or sign would give a run at constant pressure the wrong volume, without an error."""
    atoms = bulk("Si", a=5.3, cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = make_calculator(read_yaml(chgnet_yaml)["calculator"])
    stress, strain, energies = atoms.get_stress()[:3].mean(), 0.005, []
    for factor in (1 - strain, 1 + strain):
        strained = twin_of(atoms)
        strained.set_cell(atoms.cell * factor, scale_atoms=True)
        energies.append(strained.get_potential_energy())
    assert abs(stress) > 1 * units.GPa
    assert stress == pytest.approx(np.diff(energies)[0] / (6 * strain * atoms.get_volume()), rel=0.01)
