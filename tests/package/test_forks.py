"""Processes forked from one that has computed: they compute too, and find the same."""

import os
import subprocess
import sys

import pytest
from raising import told

from asecalc_ml import MLCalculator
from asecalc_ml.errors import CalculationError
from asecalc_ml.structure.loading import load_structure

POOL = """
import multiprocessing, sys
import numpy as np
from ase.build import bulk, molecule
from asecalc_ml.calculators.factory import make_calculator
from asecalc_ml.threads import torch_threads

def energy(atoms):
    atoms = atoms.copy()
    atoms.calc = calculator
    return [atoms.get_potential_energy(), *atoms.get_forces().ravel()]

if __name__ == "__main__":
    calculator = make_calculator(sys.argv[1], **eval(sys.argv[2]))
    frames = []
    for scale in (0.98, 0.99, 1.0, 1.01):
        frame = eval(sys.argv[3])
        frame.positions *= scale
        frames.append(frame)
    with torch_threads(2):
        for _ in range(2):
            expected = [energy(atoms) for atoms in frames]
            with multiprocessing.get_context("fork").Pool(2) as pool:
                found = pool.map_async(energy, frames).get(100)
            assert np.abs(np.subtract(found, expected)).max() <= float(sys.argv[4])
    print("equal")
"""


def pool(calculator: str, arguments: dict, tolerance: float = 0.0) -> str:
    given = [calculator, repr(arguments), "molecule('CH3CH2OH')", str(tolerance)]
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", POOL, *given],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    return done.stdout + done.stderr[-2000:]


@pytest.mark.parametrize("compile", ["never", pytest.param("always", marks=pytest.mark.slow)])
def test_a_forked_pool_finds_the_same_bits_with_two_threads(tiny_model, compile):
    assert "equal" in pool(tiny_model, {"compile": compile})


def test_a_forked_pool_of_gfn2_xtb(own_home):
    pytest.importorskip("tblite")
    # each calculation starts from the wave function of the one before, which differs
    assert "equal" in pool("gfn2-xtb", {}, tolerance=1e-4)


def test_a_child_of_a_process_that_used_a_gpu_is_told(tiny_model, monkeypatch):
    ethanol = load_structure("ethanol")
    ethanol.calc = MLCalculator(tiny_model)
    monkeypatch.setattr("torch.cuda._is_in_bad_fork", lambda: True)
    with pytest.raises(CalculationError, check=told(remedy="'spawn'")):
        ethanol.get_potential_energy()


def test_importing_the_package_loads_no_torch_for_it():
    code = "import sys, asecalc_ml.forks; asecalc_ml.forks.allow_forks(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
