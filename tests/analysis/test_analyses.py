"""Every registered analysis obeys the laws of `asecalc_ml.testing`."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from asecalc_ml.analysis.checks.committee_deviation import CommitteeDeviation
from asecalc_ml.analysis.checks.connectivity import Connectivity
from asecalc_ml.analysis.checks.energy_drift import EnergyDrift
from asecalc_ml.analysis.checks.pressure import Pressure
from asecalc_ml.analysis.checks.relaxation import Relaxation
from asecalc_ml.analysis.checks.temperature import Temperature
from asecalc_ml.analysis.distributions.angles import Angles
from asecalc_ml.analysis.distributions.bond_lengths import BondLengths
from asecalc_ml.analysis.distributions.conformers import Conformers
from asecalc_ml.analysis.distributions.dihedrals import Dihedrals
from asecalc_ml.analysis.functions.mean_square_displacement import MeanSquareDisplacement
from asecalc_ml.analysis.functions.normal_modes import NormalModes
from asecalc_ml.analysis.functions.radial_distribution import RadialDistribution
from asecalc_ml.analysis.functions.vibrational_density import VibrationalDensity
from asecalc_ml.analysis.memory_run import MemoryRun
from asecalc_ml.analysis.scan.scan import ScanAnalysis
from asecalc_ml.analysis.transfer.transfer import TransferAnalysis
from asecalc_ml.config.options import parse_options
from asecalc_ml.plugins import get, names
from asecalc_ml.runs import COMMITTEE_DEVIATION
from asecalc_ml.structure.loading import load_structure
from asecalc_ml.testing import AnalysisChecks

EMT_BY_NAME = "ase.calculators.emt:EMT"


def shaken(atoms: Atoms, n_frames: int = 40, amplitude: float = 0.03) -> MemoryRun:
    """A run whose atoms swing about their places, in time and at random; a table of energies with it."""
    rng, frames = np.random.default_rng(0), []
    phases = rng.uniform(0, 2 * np.pi, (len(atoms), 3))
    omega = 2 * np.pi / 20.0  # per frame of 1 fs
    for k in range(n_frames):
        frame = atoms.copy()
        frame.positions += amplitude * np.sin(omega * k + phases) + 0.002 * rng.normal(size=phases.shape)
        frame.set_velocities(amplitude * omega / units.fs * np.cos(omega * k + phases))
        frames.append(frame)
    time = np.arange(n_frames, dtype=float)
    columns = {"potential_eV": -1.0, "kinetic_eV": 1.0, "total_eV": 0.0, "temperature_K": 300.0}
    thermo = {name: value + 0.01 * rng.normal(size=n_frames) for name, value in columns.items()}
    options = {"protocol": "nve", "temperature_K": 300.0, "steps": n_frames, "timestep_fs": 1.0}
    thermo |= {"step": time, "time_fs": time}
    thermo |= {"volume_A3": 100 + rng.normal(size=n_frames), "pressure_GPa": rng.normal(size=n_frames)}
    return MemoryRun.from_frames(frames, 1.0, thermo=thermo, options=options)


class OfEthanol(AnalysisChecks):
    """Of a molecule in memory."""

    def make_run(self, directory):
        return shaken(load_structure("ethanol"))


class TestBondLengths(OfEthanol):
    options = BondLengths()
    permutes = False  # members of a pattern are named by the numbers of their atoms

    def refused_runs(self):
        return [shaken(Atoms("Ar"))]


class TestAngles(OfEthanol):
    options = Angles()
    permutes = False

    def refused_runs(self):
        return [shaken(molecule("N2"))]


class TestDihedrals(OfEthanol):
    options = Dihedrals()
    permutes = False

    def refused_runs(self):
        return [shaken(molecule("H2O"))]


class TestConformers(OfEthanol):
    options = Conformers()
    unbounded = ("wells_deg",)
    permutes = False


class TestConnectivity(OfEthanol):
    options = Connectivity()
    permutes = False


class TestRadialDistribution(AnalysisChecks):
    options = RadialDistribution(range_A=4.0)

    def make_run(self, directory):
        return shaken(bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 2, 2), n_frames=10)


class TestMeanSquareDisplacement(AnalysisChecks):
    options = MeanSquareDisplacement()

    def make_run(self, directory):
        return shaken(load_structure("ethanol"), n_frames=200)

    def refused_runs(self):
        return [shaken(load_structure("ethanol"), n_frames=5)]


class TestVibrationalDensity(AnalysisChecks):
    options = VibrationalDensity(resolution_per_cm=300)
    unbounded = ("harmonic_per_cm",)

    def make_run(self, directory):
        return shaken(load_structure("ethanol"), n_frames=400)

    def refused_runs(self):
        return [shaken(load_structure("ethanol"), n_frames=3)]


class TestEnergyDrift(OfEthanol):
    options = EnergyDrift()


class TestTemperature(OfEthanol):
    options = Temperature()


class TestPressure(OfEthanol):
    options = Pressure()


class OfAProtocol(AnalysisChecks):
    """Of what a protocol writes."""

    protocol: dict

    def make_run(self, directory):
        given = {"structure": "ethanol", "calculator": EMT_BY_NAME, "relax_fmax_eV_A": 0.3, **self.protocol}
        options = parse_options(given, get("protocols", given["protocol"]))
        return options.run(directory=directory / "run", quiet=True)


class TestRelaxation(OfAProtocol):
    options = Relaxation()
    protocol = {"protocol": "relax"}  # noqa: RUF012


class TestNormalModes(OfAProtocol):
    options = NormalModes()
    protocol = {"protocol": "vibrations"}  # noqa: RUF012


class TestScan(OfAProtocol):
    options = ScanAnalysis()
    protocol = {"protocol": "scan", "coordinate": "C-O", "start": 1.3, "stop": 1.6, "points": 5}  # noqa: RUF012


class TestCommitteeDeviation(AnalysisChecks):
    options = CommitteeDeviation()

    def make_run(self, directory):
        thermo = {"time_fs": np.arange(20) * 0.5, COMMITTEE_DEVIATION: np.linspace(0.01, 0.2, 20)}
        atoms = molecule("H2O")
        atoms.calc = SimpleNamespace(members=(EMT(), EMT()))
        return MemoryRun(atoms, np.empty((0, 3, 3)), thermo=thermo)

    def refused_runs(self):
        return [MemoryRun(molecule("H2O"), np.empty((0, 3, 3)), thermo={"time_fs": np.arange(20) * 0.5})]


class TestTransfer(OfAProtocol):
    options = TransferAnalysis()
    protocol = {  # noqa: RUF012
        "protocol": "transfer",
        "structure": "water",
        "transfer_to": ["CH4"],
        "reference": EMT_BY_NAME,
        "runs": 1,
        "reference_runs": 1,
        "steps": 20,
        "equilibration_ps": 0.01,
    }


@pytest.mark.smoke
def test_every_analysis_of_ours_is_checked():
    checked = re.findall(r"^    options = (\w+)\(", Path(__file__).read_text(encoding="utf-8"), re.MULTILINE)
    analyses = [get("analyses", name) for name in names("analyses")]
    assert {one.__name__ for one in analyses if one.__module__.startswith("asecalc_ml.")} <= set(checked)
