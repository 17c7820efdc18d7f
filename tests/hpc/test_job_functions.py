"""The functions that job scripts share, without a queueing system: signals, statuses, copies of results."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from places import EXAMPLES

HPC = EXAMPLES / "hpc"

pytestmark = pytest.mark.skipif(
    not HPC.is_dir() or shutil.which("bash") is None, reason="job scripts are part of the checkout, for bash"
)

#: A command that ends as ours do: it writes its directory, and answers SIGTERM with a status.
COMMAND = """#!/usr/bin/env bash
while [ $# -gt 1 ]; do shift; done # --directory DIRECTORY comes last
mkdir -p "$1"
echo start >>"$1/starts"
trap 'echo asked >>"$1/starts"; exit ${ANSWERS:-75}' TERM
touch "$READY"
for i in $(seq ${LASTS_S:-100}); do sleep 1 & wait $!; done
exit ${ENDS:-0}
"""


class Job:
    """A script that sources the functions, in a folder of its own."""

    def __init__(self, folder: Path, **environment: str):
        self.folder = folder
        self.ready = folder / "ready"
        (folder / "bin").mkdir()
        (folder / "disk").mkdir()
        shutil.copy(HPC / "job.sh", folder)
        self.program("work", COMMAND)
        self.environment = os.environ | {
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "NODE_DISK": str(folder / "disk"),
            "READY": str(self.ready),
            **environment,
        }

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def start(self, script: str) -> subprocess.Popen:
        self.ready.unlink(missing_ok=True)
        command = ["bash", "-c", f". ./job.sh\n{script}"]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True
        )

    def signalled(self, script: str) -> int:
        """Status of a script whose shell gets SIGTERM while its command runs."""
        running = self.start(script)
        deadline = time.monotonic() + 60
        while not self.ready.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)
        return running.returncode

    def ended(self, script: str) -> int:
        running = self.start(script)
        running.communicate(timeout=60)
        return running.returncode

    def starts(self, directory: str = "run") -> list[str]:
        return (self.folder / directory / "starts").read_text().split()


@pytest.mark.parametrize("status", [0, 1, 2, 75])
@pytest.mark.parametrize("how", ["in_place work --directory run", "on_scratch run work"])
def test_the_status_is_that_of_the_command(how, status, tmp_path):
    job = Job(tmp_path, LASTS_S="0", ENDS=str(status))
    assert job.ended(f"{how}; exit $status") == status
    assert job.starts() == ["start"]


@pytest.mark.parametrize("answer", [0, 2, 75])
@pytest.mark.parametrize("how", ["in_place work --directory run", "on_scratch run work"])
def test_the_signal_is_passed_on_and_its_answer_is_the_status(how, answer, tmp_path):
    job = Job(tmp_path, ANSWERS=str(answer))
    assert job.signalled(f"{how}; exit $status") == answer
    assert job.starts() == ["start", "asked"]


def test_a_command_that_does_not_listen_yet_is_to_be_continued(tmp_path):
    job = Job(tmp_path)
    job.program("work", '#!/usr/bin/env bash\ntouch "$READY"\nexec sleep 100\n')
    assert job.signalled("in_place work; exit $status") == 75


def test_a_command_that_does_not_end_is_killed_and_its_files_are_copied(tmp_path):
    job = Job(tmp_path, SECONDS_TO_END="1")
    deaf = 'trap \'\' TERM; mkdir -p "$2"; touch "$2/file" "$READY"; while true; do sleep 1; done'
    job.program("work", f"#!/usr/bin/env bash\n{deaf}\n")
    assert job.signalled("on_scratch run work; exit $status") == 75
    assert (tmp_path / "run" / "file").exists()


def test_a_command_killed_by_somebody_else_has_failed(tmp_path):
    job = Job(tmp_path)
    job.program("work", "#!/usr/bin/env bash\nkill -KILL $$\n")
    assert job.ended("in_place work; exit $status") == 128 + signal.SIGKILL


def test_a_restart_finds_the_files_of_the_start_before_it(tmp_path):
    job = Job(tmp_path)
    script = "on_scratch results/run work; exit $status"
    assert job.signalled(script) == 75
    job.environment["LASTS_S"] = "0"
    assert job.ended(script) == 0
    assert job.starts("results/run") == ["start", "asked", "start"]
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["run"]
    assert not list((tmp_path / "disk").iterdir())


@pytest.mark.parametrize("killed_before", ["cp", "mv", "second mv", "rm"])
def test_a_copy_that_is_killed_leaves_a_whole_directory(killed_before, tmp_path):
    """The job ends before each operation of the copy, and is started again."""
    job = Job(tmp_path, LASTS_S="0")
    script = "on_scratch run work; exit $status"
    assert job.ended(script) == 0
    name, n_before = killed_before.split()[-1], {"second mv": 1, "rm": 2, "cp": 1}.get(killed_before, 0)
    counting = (
        f'n=0; {name}() {{ n=$((n + 1)); [ $n -le {n_before} ] || kill -KILL $$; command {name} "$@"; }}\n'
    )
    assert job.ended(counting + script) == -signal.SIGKILL
    assert job.ended(script) == 0
    assert job.starts() in (["start"] * 2, ["start"] * 3)
    assert (tmp_path / "run").is_dir()
    assert not (tmp_path / "run.before").exists()


def test_a_directory_that_cannot_be_replaced_is_named_and_kept_on_the_node(tmp_path):
    job = Job(tmp_path, LASTS_S="0")
    (tmp_path / "file").touch()
    running = job.start("on_scratch file/run work; exit $status")
    _, said = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "cannot be copied to file/run" in said
    assert list((tmp_path / "disk").glob("*/run/starts"))


# ------------------------------------------------------------------------------------------ PBS


@pytest.fixture
def pbs(tmp_path) -> Job:
    """A job of `pbs/md.sh`, whose `asecalc-md` is the command above and whose `qsub` notes its arguments."""
    job = Job(tmp_path, FILE="nve.yaml", PBS_O_WORKDIR=str(tmp_path))
    shutil.copytree(HPC / "pbs", tmp_path / "pbs")
    job.program("asecalc-md", COMMAND)
    job.program("qsub", '#!/usr/bin/env bash\necho "$@" >>qsub.txt\n')
    return job


def test_a_pbs_job_submits_itself_again_until_it_is_done(pbs, tmp_path):
    script = tmp_path / "pbs" / "md.sh"
    script.write_text(script.read_text().replace("86100", "2"))
    assert pbs.ended(". pbs/md.sh") == 0
    assert (tmp_path / "qsub.txt").read_text().split() == ["-v", "RESTARTS=1,FILE=nve.yaml", "pbs/md.sh"]
    pbs.environment |= {"RESTARTS": "1", "LASTS_S": "0"}
    assert pbs.ended(". pbs/md.sh") == 0
    assert len((tmp_path / "qsub.txt").read_text().splitlines()) == 1
    assert pbs.starts("runs/nve") == ["start", "asked", "start"]


@pytest.mark.parametrize(
    ("environment", "status"), [({"ENDS": "2"}, 2), ({"ENDS": "75", "RESTARTS": "100"}, 75)]
)
def test_a_pbs_job_that_fails_or_never_ends_is_not_submitted_again(environment, status, pbs, tmp_path):
    pbs.environment |= {"LASTS_S": "0", **environment}
    assert pbs.ended(". pbs/md.sh") == status
    assert not (tmp_path / "qsub.txt").exists()


def test_no_process_outlives_a_job(pbs, tmp_path):
    """The timer of a PBS job ends with it."""
    pbs.environment["LASTS_S"] = "0"
    assert pbs.ended(". pbs/md.sh; ") == 0
    time.sleep(0.5)
    here = [path for path in Path("/proc").glob("[0-9]*/cwd") if _is(path, tmp_path)]
    assert not here


def _is(link: Path, folder: Path) -> bool:
    try:
        return link.resolve(strict=True) == folder
    except OSError:
        return False
