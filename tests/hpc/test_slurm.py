"""Job scripts of `examples/hpc/slurm` on a Slurm of one node: time limits, requeueing, results bit for bit.

They run on the Slurm that `.ci/slurm start FOLDER` starts, and only if $ASECALC_TEST_SLURM is this folder: no
job is ever given to the Slurm that a machine belongs to. All jobs run at the same time.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ase.io import write
from places import EXAMPLES, HELPERS
from small_training import SMALL, labelled

from asecalc_ml.potentials.training import TrainOptions
from asecalc_ml.potentials.tuning import TuneOptions, read_search

FOLDER = os.environ.get("ASECALC_TEST_SLURM", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (FOLDER and Path(FOLDER, "slurm.conf").is_file()),
        reason="no Slurm for tests: `.ci/slurm start FOLDER` as root, then ASECALC_TEST_SLURM=FOLDER",
    ),
]

#: A limit of a minute; the signal comes 5 to 35 s before its end, as Slurm looks at time limits every 30 s.
LIMIT = ["--time=1", "--signal=B:TERM@5"]

#: Steps of runs and trainings, which take longer than two time limits in the first two starts of a job.
N_STEPS, N_BATCHES = 700, 72
N_TRIALS = 3
PATIENCE_S = 300

#: Options of a training that two processes do as one does, to rounding.
OF_TWO = {"batch_size": 2, "max_epochs": 6, "precision": "float64"}

#: Our commands; steps take long until a job has been started for the third time.
COMMAND = """#!{python}
import os, time
slow = int(os.environ.get("SLURM_RESTART_COUNT") or 0) < 2
os.environ["TOY_DELAY_S"] = "0.2" if slow else "0"
from asecalc_ml.cli.{module} import main
from asecalc_ml.potentials.training.loop import TrainingLoop
train_step = TrainingLoop.train_step
def slow_step(loop, batch):
    time.sleep(2.0 if slow else 0.0)
    return train_step(loop, batch)
TrainingLoop.train_step = slow_step
main()
"""

#: A trial that a job starts before it was requeued takes longer than the time limit. Python imports this.
SLOW_TRIAL = """
import os, sys, time
if "asecalc_ml.cli.tune.worker" in sys.orig_argv and os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
    time.sleep(120)
"""

RAY = """#!{python}
from ray.scripts.scripts import main
main()
"""

MD = {
    "protocol": "nvt",
    "structure": "H2O",
    "calculator": "toy_calculators:SlowSprings",
    "thermostat": "langevin",
    "relax": False,
    "equilibration_ps": 0.0,
    "steps": N_STEPS,
    "write_every": 5,
    "checkpoint_every": 100_000,
}


class Cluster:
    """Submits jobs, from one folder for all of them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = os.environ | {
            "SLURM_CONF": f"{FOLDER}/slurm.conf",
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "ASECALC_ML_HOME": str(folder / "models"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "NODE_DISK": str(folder / "disk"),
            "PYTHONPATH": str(folder / "start"),
            "TOY_DELAY_S": "0",
            "OMP_NUM_THREADS": "1",
        }
        for name in ("bin", "disk", "start"):
            (folder / name).mkdir()
        (folder / "start" / "sitecustomize.py").write_text(SLOW_TRIAL)
        shutil.copy(EXAMPLES / "hpc" / "job.sh", folder)
        shutil.copytree(EXAMPLES / "hpc" / "slurm", folder / "slurm")
        shutil.copy(HELPERS / "toy_calculators.py", folder)

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def command(self, *words: str) -> str:
        """Standard output of a command of Slurm."""
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, *words: str) -> str:
        """Number of a job."""
        limit = [] if any(word.startswith("--signal") for word in words) else LIMIT
        return self.command("sbatch", "--parsable", "--cpus-per-task=1", *limit, *words).strip()

    def job(self, number: str) -> dict[str, str]:
        """State of a job, as `scontrol show job` prints it."""
        return dict(re.findall(r"(\w+)=(\S*)", self.command("scontrol", "show", "job", number)))

    def ended(self, number: str) -> dict[str, str]:
        """State of a job that has ended."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            job = self.job(number)
            if job["JobState"] not in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED"):
                return job
            time.sleep(1)
        self.command("scancel", number)
        raise AssertionError(f"job {number} does not end: {job}\n{self.log(number)}")

    def log(self, number: str) -> str:
        return "\n".join(path.read_text() for path in self.folder.glob(f"*-{number}.log"))

    def wait_for(self, condition) -> None:
        deadline = time.monotonic() + 120
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert condition()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """All jobs of this file, submitted at once."""
    cluster = Cluster(tmp_path_factory.mktemp("jobs"))
    yield cluster
    cluster.command("scancel", "--name=md,training,campaign,search,replicas,claim")


def file(folder: Path, name: str, options: dict | TrainOptions) -> str:
    given = options if isinstance(options, dict) else options.model_dump(mode="json", exclude_unset=True)
    (folder / name).write_text(json.dumps(given))  # JSON is YAML
    return name


def training(folder: Path, name: str, **further) -> TrainOptions:
    """Three epochs by default; one takes longer than some time limits leave after the start."""
    if not (folder / "frames.xyz").exists():
        write(folder / "frames.xyz", labelled(), format="extxyz")
    n_epochs = 3
    return TrainOptions(
        name=name,
        data={"format": "ase", "path": "frames.xyz", "level_of_theory": "EMT"},
        split={"n_train": N_BATCHES // n_epochs, "n_validation": 8, "n_test": 8},
        model=SMALL,
        optimizer={"warmup_steps": 5, "ema_decay": 0.9},
        **{"batch_size": 1, "max_epochs": n_epochs, **further},
    )


def search(folder: Path) -> TuneOptions:
    """Trials of seconds, but for the first, which waits for a time limit: see :data:`SLOW_TRIAL`."""
    space = {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}}
    return TuneOptions(
        **training(folder, "search", batch_size=4).model_dump(exclude_unset=True),
        search={"space": space, "trials": N_TRIALS},
    )


@pytest.fixture(scope="module")
def jobs(cluster) -> dict[str, str]:
    """Numbers of the long jobs by name; all are submitted before the first is waited for."""
    folder = cluster.folder
    for name, module in (("asecalc-md", "md"), ("asecalc-ml", "ml")):
        cluster.program(name, COMMAND.format(python=sys.executable, module=module))
    cluster.program("ray", RAY.format(python=sys.executable))
    (folder / "claim.py").write_text(CLAIM)
    campaign = {"base": MD, "grid": {"seed": [1, 2]}}
    without_b = ["--time=1", "--signal=TERM@15", "--job-name=claim"]
    short = {"base": {**MD, "steps": 20}, "grid": {"seed": [1, 2]}}
    return {
        "md": cluster.submit("slurm/md.sh", file(folder, "nvt.yaml", MD)),
        "training": cluster.submit(
            "slurm/training.sh", file(folder, "small.yaml", training(folder, "small"))
        ),
        "two processes": cluster.submit(
            "--nodes=1",
            "--ntasks-per-node=2",
            "slurm/training_nodes.sh",
            file(folder, "two.yaml", training(folder, "two", **OF_TWO)),
        ),
        "search": cluster.submit("slurm/search.sh", file(folder, "search.yaml", search(folder))),
        "campaign": cluster.submit(
            "--cpus-per-task=2", "slurm/campaign.sh", file(folder, "grid.yaml", campaign)
        ),
        "ray": cluster.submit(
            "--nodes=1",
            "--cpus-per-task=2",
            "--time=4",
            "slurm/campaign_ray.sh",
            file(folder, "ray.yaml", short),
        ),
        "failing": cluster.submit("slurm/md.sh", file(folder, "wrong.yaml", {**MD, "structure": "no-such"})),
        "replicas": cluster.submit(
            "--array=0-1", "slurm/replicas.sh", file(folder, "short.yaml", {**MD, "steps": 20})
        ),
        "without srun": cluster.submit(*without_b, "--wrap=python3 claim.py alone"),
        "with srun": cluster.submit(*without_b, "--wrap=srun python3 claim.py step"),
    }


CLAIM = """
import signal, sys, time
start, file = time.time(), open(sys.argv[1] + ".txt", "w", buffering=1)
def answer(number, frame):
    print(time.time() - start, file=file)
    sys.exit(75)
signal.signal(signal.SIGTERM, answer)
time.sleep(300)
"""


def needed_three_limits(cluster, number: str) -> None:
    job = cluster.ended(number)
    assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), cluster.log(number)
    assert int(job["Restarts"]) >= 2


def same_run(directory: Path, straight: Path) -> None:
    for name in ("trajectory.traj", "thermo.csv"):
        assert (directory / name).read_bytes() == (straight / name).read_bytes(), name


def in_one_go(cluster, folder: str, *words: str) -> Path:
    """The same command, never interrupted and without its pauses."""
    code = f"from asecalc_ml.cli.{words[0].removeprefix('asecalc-')} import main; main()"
    command = [sys.executable, "-c", code, *words[1:], "--directory", folder, "--quiet"]
    subprocess.run(command, cwd=cluster.folder, env=cluster.environment, check=True)
    return cluster.folder / folder


def test_a_run_over_three_time_limits_is_that_of_one_go(cluster, jobs):
    straight = in_one_go(cluster, "straight/nvt", "asecalc-md", "run", "nvt.yaml")
    needed_three_limits(cluster, jobs["md"])
    same_run(cluster.folder / "runs" / "nvt", straight)
    assert (cluster.folder / "runs" / "nvt" / "report.html").is_file()
    assert not list((cluster.folder / "runs").glob("nvt.*"))


def test_a_training_over_three_time_limits_has_the_weights_of_one_go(cluster, jobs):
    import torch
    from safetensors.torch import load_file

    other = file(cluster.folder, "other.yaml", training(cluster.folder, "other"))
    straight = in_one_go(cluster, "straight/other", "asecalc-ml", "train", other)
    needed_three_limits(cluster, jobs["training"])
    resumed = cluster.folder / "training" / "small"
    weights, whole = load_file(resumed / "small.safetensors"), load_file(straight / "other.safetensors")
    assert weights.keys() == whole.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, weights[name]), name
    tables = [(folder / "metrics.csv").read_text().splitlines() for folder in (resumed, straight)]
    errors = [[line.rpartition(",")[0] for line in table] for table in tables]  # the last column is a time
    assert errors[0] == errors[1]
    assert len(errors[0]) == 4
    assert (cluster.folder / "models" / "small.safetensors").is_file()


def test_a_training_of_two_processes_over_three_time_limits_is_that_of_one(cluster, jobs):
    import numpy as np

    alone = file(cluster.folder, "alone.yaml", training(cluster.folder, "alone", **OF_TWO))
    straight = in_one_go(cluster, "straight/alone", "asecalc-ml", "train", alone)
    needed_three_limits(cluster, jobs["two processes"])
    together = cluster.folder / "training" / "two"
    errors, expected = (
        np.loadtxt(folder / "metrics.csv", delimiter=",", skiprows=1)[:, :-1]
        for folder in (together, straight)
    )
    np.testing.assert_allclose(errors, expected, rtol=1e-7)
    assert "another process" not in cluster.log(jobs["two processes"])


def test_a_search_over_time_limits_runs_each_trial_once(cluster, jobs):
    job = cluster.ended(jobs["search"])
    assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), cluster.log(jobs["search"])
    assert int(job["Restarts"]) >= 1
    results = read_search(cluster.folder / "tuning" / "search")
    assert [trial.state for trial in results.trials] == ["done"] * N_TRIALS
    assert [trial.numbers["epochs"] for trial in results.trials] == [3] * N_TRIALS


def test_a_campaign_over_three_time_limits_is_that_of_one_go(cluster, jobs):
    needed_three_limits(cluster, jobs["campaign"])
    for seed in (1, 2):
        words = ("asecalc-md", "run", "nvt.yaml", "--seed", str(seed))
        straight = in_one_go(cluster, f"straight/seed-{seed}", *words)
        same_run(cluster.folder / "runs" / "grid" / f"seed={seed}", straight)
    failures = cluster.folder / "runs" / "grid" / "campaign.json"
    assert not failures.exists()


def test_a_campaign_on_the_nodes_of_a_job(cluster, jobs):
    pytest.importorskip("ray")
    job = cluster.ended(jobs["ray"])
    assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), cluster.log(jobs["ray"])
    assert len((cluster.folder / "runs" / "ray" / "results.csv").read_text().splitlines()) == 3


def test_a_job_that_fails_is_not_started_again(cluster, jobs):
    job = cluster.ended(jobs["failing"])
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("FAILED", "2:0", "0")
    assert "no-such" in cluster.log(jobs["failing"])


def test_an_array_of_jobs(cluster, jobs):
    for seed in (0, 1):
        job = cluster.ended(f"{jobs['replicas']}_{seed}")
        assert job["JobState"] == "COMPLETED"
    words = ("asecalc-md", "run", "short.yaml", "--seed", "1")
    same_run(cluster.folder / "runs" / "short-1", in_one_go(cluster, "straight/short-1", *words))


def test_a_job_that_is_cancelled_keeps_its_checkpoint_and_is_not_started_again(cluster, jobs):
    number = cluster.submit("slurm/md.sh", file(cluster.folder, "cancelled.yaml", MD))
    disk = cluster.folder / "disk"
    cluster.wait_for(lambda: any(disk.glob("*/cancelled/thermo.csv")))
    time.sleep(3)
    cluster.command("scancel", number)
    assert cluster.ended(number)["JobState"] == "CANCELLED"
    cluster.wait_for((cluster.folder / "runs" / "cancelled" / "checkpoint.npz").is_file)
    time.sleep(5)
    assert cluster.job(number)["JobState"] == "CANCELLED"


def test_whom_the_signal_reaches_before_a_time_limit(cluster, jobs):
    """Without B: it goes to the steps of srun alone; the script itself runs on, to the limit."""
    states = [cluster.ended(jobs[name])["JobState"] for name in ("without srun", "with srun")]
    assert states == ["TIMEOUT", "FAILED"]
    alone, step = (float((cluster.folder / f"{name}.txt").read_text()) for name in ("alone", "step"))
    assert step < 50 < alone
