"""Every registered protocol obeys the laws of `asecalc_ml.testing`."""

import re
from pathlib import Path

import pytest
from ase import Atoms
from ase.build import bulk, molecule

from asecalc_ml.md_protocols.npt import NPT
from asecalc_ml.md_protocols.nve import NVE
from asecalc_ml.md_protocols.nvt import NVT
from asecalc_ml.md_protocols.relax import Relax
from asecalc_ml.md_protocols.scan.options import Scan
from asecalc_ml.md_protocols.sequence import Sequence
from asecalc_ml.md_protocols.transfer.options import Transfer
from asecalc_ml.md_protocols.vibrations import Vibrations
from asecalc_ml.plugins import get, names
from asecalc_ml.runs import RELAXED
from asecalc_ml.testing import ProtocolChecks

EMT = "ase.calculators.emt:EMT"
ETHANOL = {"structure": "ethanol", "calculator": EMT, "relax_fmax_eV_A": 0.3}
SHORT = {
    **ETHANOL,
    "equilibration_ps": 0.01,
    "steps": 30,
    "write_every": 5,
    "thermo_every": 3,
    "checkpoint_every": 7,
}


@pytest.fixture(autouse=True)
def crystal(tmp_path, monkeypatch):
    """What a periodic protocol starts from, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (bulk("Cu", cubic=True) * (2, 1, 1)).write("copper.extxyz")


class TestNVE(ProtocolChecks):
    options = NVE(**SHORT)


class TestNVT(ProtocolChecks):
    options = NVT(**SHORT)


class TestNVTToZeroKelvin(ProtocolChecks):
    options = NVT(**SHORT, thermostat="langevin", temperature_end_K=0)


class TestNPT(ProtocolChecks):
    options = NPT(**{**SHORT, "structure": "copper.extxyz"})
    refused = (molecule("H2O"), Atoms("Cu", cell=[3, 3, 3], pbc=[True, True, False]))


class TestSequence(ProtocolChecks):
    options = Sequence(
        **{name: value for name, value in SHORT.items() if name != "steps"},
        sequence=[
            {"ensemble": "nvt", "steps": 15, "temperature_end_K": 400},
            {"ensemble": "nve", "steps": 15},
        ],
    )


class TestRelax(ProtocolChecks):
    options = Relax(**ETHANOL)
    deterministic = True


class TestVibrations(ProtocolChecks):
    options = Vibrations(**ETHANOL, seed=3)
    deterministic = True


class TestScan(ProtocolChecks):
    options = Scan(**ETHANOL, coordinate="C-O", start=1.3, stop=1.6, points=4)
    deterministic = True
    may_write = (RELAXED,)


class TestTransfer(ProtocolChecks):
    options = Transfer(
        **{**SHORT, "structure": "water"}, transfer_to=["CH4"], reference=EMT, runs=1, reference_runs=1
    )


@pytest.mark.smoke
def test_every_protocol_of_ours_is_checked():
    checked = re.findall(r"^    options = (\w+)\(", Path(__file__).read_text(encoding="utf-8"), re.MULTILINE)
    protocols = [get("protocols", name) for name in names("protocols")]
    assert {one.__name__ for one in protocols if one.__module__.startswith("asecalc_ml.")} <= set(checked)
