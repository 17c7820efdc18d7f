"""A search in the processes of an MPI job."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ase.io import write
from small_training import SMALL, labelled

from asecalc_ml.config.options import dump_yaml
from asecalc_ml.errors import RunError
from asecalc_ml.jobs.executors import MpiExecutor
from asecalc_ml.potentials.tuning import read_search


def test_without_mpi4py_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(RunError, match=r"mpi needs mpi4py.*pip install mpi4py"):
        MpiExecutor()


def test_a_process_alone_is_refused(monkeypatch):
    alone = SimpleNamespace(COMM_WORLD=SimpleNamespace(Get_size=lambda: 1))
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=alone))
    monkeypatch.setitem(sys.modules, "mpi4py.futures", SimpleNamespace(MPIPoolExecutor=None))
    with pytest.raises(RunError, match=r"MPI runs this process alone: start it with `mpiexec -n N python"):
        MpiExecutor()


@pytest.mark.slow
def test_trials_run_in_the_processes_of_mpi(tmp_path):
    pytest.importorskip("mpi4py")
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.is_file():
        pytest.skip("no mpiexec next to Python: pip install mpich mpi4py")
    write(tmp_path / "frames.xyz", labelled(), format="extxyz")
    options = {
        "name": "mpi",
        "data": {"format": "ase", "path": "frames.xyz", "level_of_theory": "EMT"},
        "split": {"n_train": 24, "n_validation": 8, "n_test": 8},
        "model": SMALL,
        "max_epochs": 2,
        "search": {
            "space": {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-3]}},
            "trials": 3,
            "workers": 2,
            "executor": "mpi",
        },
    }
    (tmp_path / "tune.yaml").write_text(dump_yaml(options))
    tune = [sys.executable, "-m", "mpi4py.futures", "-m", "asecalc_ml.cli.ml", "tune", "tune.yaml"]
    result = subprocess.run(
        [mpiexec, "-n", "3", *tune],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert [trial.state for trial in read_search(tmp_path / "tuning" / "mpi").trials] == ["done"] * 3
