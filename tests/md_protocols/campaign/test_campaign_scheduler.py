"""The scheduler of campaigns with executors that answer at once: what is started when, repeated, and told."""

import csv
import json
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest

from asecalc_ml.cli.campaign import worker as campaign_worker
from asecalc_ml.cli.campaign.progress import counts, progress_table
from asecalc_ml.cli.campaign.table import write_tables
from asecalc_ml.cli.process import job_outcome
from asecalc_ml.errors import AnalysisError
from asecalc_ml.jobs.executors import Job, LocalExecutor, Outcome, make_executor
from asecalc_ml.md_protocols.campaign import scheduler as campaign_scheduler
from asecalc_ml.md_protocols.campaign.options import Campaign, expand
from asecalc_ml.md_protocols.campaign.scheduler import Scheduler
from asecalc_ml.md_protocols.campaign.state import CampaignFolder
from asecalc_ml.runs import RunReader

BASE = {
    "protocol": "nve",
    "structure": "H2O",
    "calculator": "toy_calculators:Springs",
    "relax": False,
    "equilibration_ps": 0,
    "timestep_fs": 0.5,
    "steps": 20,
}


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(campaign_scheduler, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(campaign_scheduler, "BUSY_WAIT_S", 0.05)


class Answers:
    """Gives each run the outcomes of a list, one after the other."""

    def __init__(self, **outcomes: list[Outcome]):
        self.outcomes, self.started, self.closed, self.open, self.most = outcomes, [], False, [], 0

    def start(self, job: Job) -> Future[Outcome]:
        name = Path(job.message["directory"]).name.replace("seed=", "s")
        self.started.append(name)
        future = Future()
        self.open.append(future)
        self.most = max(self.most, sum(not one.done() for one in self.open))
        future.set_result(self.outcomes[name].pop(0))
        return future

    def close(self) -> None:
        self.closed = True


def scheduler(folder: CampaignFolder, n_runs: int = 2, **options) -> Scheduler:
    campaign = Campaign(base=BASE, grid={"seed": list(range(n_runs))}, **options)
    return Scheduler(expand(campaign, Path("c.yaml")), folder, campaign)


@pytest.fixture
def folder(tmp_path):
    one = CampaignFolder(tmp_path / "runs")
    yield one
    one.close()


DONE, PAUSED = Outcome("done", ""), Outcome("paused", "the wall time is over")
BUSY, LOST = Outcome("busy", "another process"), Outcome("lost", "its process was killed by SIGKILL")
FAILED = Outcome("failed", "not finite")


def drive(one: Scheduler, answers: Answers) -> list[tuple[str, str]]:
    told = []
    one.run(
        lambda: answers, lambda status: told.append((status.point.name, status.state)) if status else None
    )
    return told


def test_failed_and_lost_runs_are_taken_up_and_counted(folder):
    answers = Answers(s0=[LOST, DONE], s1=[FAILED, LOST, FAILED])
    one = scheduler(folder, retries=2)
    drive(one, answers)
    assert sorted(answers.started) == ["s0", "s0", "s1", "s1", "s1"]
    assert [status.state for status in one.statuses] == ["done", "failed"]
    assert one.statuses[1].text == "not finite. It failed 3 times (retries: 2)."
    assert answers.closed
    stored = json.loads((folder.directory / "campaign.json").read_text())["failures"]
    assert stored == {"seed=0": [LOST.text], "seed=1": [FAILED.text, LOST.text, FAILED.text]}


def test_failures_are_remembered_from_campaign_to_campaign(folder):
    drive(scheduler(folder, 1, retries=0), Answers(s0=[FAILED]))
    again, answers = scheduler(folder, 1, retries=0), Answers(s0=[DONE])
    assert drive(again, answers) == [("seed=0", "failed")]
    assert answers.started == []
    more = scheduler(folder, 1, retries=1)
    assert more.statuses[0].text == "failed before: not finite"
    drive(more, answers)
    assert answers.started == ["s0"]


def test_a_busy_run_is_tried_again_and_no_failure(folder):
    answers = Answers(s0=[BUSY, BUSY, DONE], s1=[DONE])
    one = scheduler(folder, retries=0)
    began = time.monotonic()
    drive(one, answers)
    assert answers.started == ["s0", "s1", "s0", "s0"]
    assert time.monotonic() - began > 0.1
    assert not (folder.directory / "campaign.json").exists()


def test_a_paused_run_waits_for_the_next_time(folder):
    answers = Answers(s0=[PAUSED], s1=[DONE])
    one = scheduler(folder)
    assert drive(one, answers)[-1] == ("seed=1", "done")
    assert [status.state for status in one.statuses] == ["paused", "done"]


def test_no_more_at_once_than_workers(folder, monkeypatch):
    n_open, most = set(), []

    class Slow(Answers):
        def start(self, job):
            future = Future()
            n_open.add(future)
            most.append(len(n_open))
            if len(n_open) == 3 or len(most) == 7:
                for each in list(n_open):
                    n_open.discard(each)
                    each.set_result(DONE)
            return future

    drive(scheduler(folder, 7, workers=3), Slow())
    assert max(most) == 3
    assert len(most) == 7


def test_an_executor_is_closed_when_something_goes_wrong(folder):
    answers = Answers(s0=[])
    with pytest.raises(IndexError):
        drive(scheduler(folder, 1), answers)
    assert answers.closed


class InThisProcess:
    """Carries jobs out as a worker's process does, in this one."""

    def start(self, job: Job) -> Future[Outcome]:
        future = Future()
        future.set_result(Outcome(*job_outcome(campaign_worker.work, json.loads(json.dumps(job.message)))))
        return future

    def close(self) -> None:
        return


def test_a_worker_runs_analyses_and_reports_once(folder, monkeypatch):
    def fails(*args):
        raise AnalysisError("too short")

    with monkeypatch.context() as patch:  # the run itself is over
        patch.setattr("asecalc_ml.analysis.report.report.write_report", fails)
        one = scheduler(folder, 1, retries=0)
        drive(one, InThisProcess())
    assert one.statuses[0].text.startswith("too short. It failed once (retries: 0)")
    again = scheduler(folder, 1, retries=1)
    assert again.statuses[0].state == "to be analysed"
    drive(again, InThisProcess())
    run = RunReader(folder.directory / "seed=0")
    assert (again.statuses[0].state, run.n_frames) == ("done", 3)
    assert scheduler(folder, 1).statuses[0].state == "done"
    paths = write_tables(folder.directory, scheduler(folder, 2).statuses)
    first, second = csv.DictReader(paths[0].open())
    assert (first["state"], first["seed"], second["state"]) == ("done", "0", "waiting")
    assert float(first["temperature.mean_K"]) == pytest.approx(run.read_thermo()["temperature_K"].mean())
    assert float(first["bond-lengths.H-O.mean_A"]) == pytest.approx(0.96, abs=0.1)
    assert first["bond-lengths.H-O.error_A"] == ""  # too short for an error
    assert second["temperature.mean_K"] == ""
    assert json.loads(paths[1].read_text())[0]["bond-lengths.H-O.error_A"] is None


def test_a_worker_looks_for_what_analyses_name_before_it_runs(folder):
    campaign = Campaign(
        base=BASE | {"analyses": {"bond-lengths": {"patterns": ["C-O"]}}}, grid={"seed": [0]}, retries=0
    )
    one = Scheduler(expand(campaign, Path("c.yaml")), folder, campaign)
    drive(one, InThisProcess())
    assert one.statuses[0].text.startswith("analysis bond-lengths: no bond in H2O matches 'C-O'")
    assert not (folder.directory / "seed=0").exists()


def test_numbers_of_results_are_found_where_they_say_what_they_are_about():
    from pydantic import BaseModel

    from asecalc_ml.analysis.scalars import scalars

    class Part(BaseModel):
        label: str = "schnet"
        region: str = "inside"
        mae_meV: float | None = None
        series: list[float] = [1.0, 2.0]

    class Whole(BaseModel):
        n_frames: int = 3
        is_sound: bool = True
        note: str = "text"
        best: Part | None = Part(mae_meV=1.5)
        parts: list[Part] = [Part(), Part(region="outside", mae_meV=2.5)]
        members: list[Part] = [Part()] * 31

    assert scalars(Whole()) == {
        "n_frames": 3,
        "best.mae_meV": 1.5,
        "schnet.inside.mae_meV": None,
        "schnet.outside.mae_meV": 2.5,
    }


def test_the_table_of_a_large_campaign_shows_what_matters(folder):
    one = scheduler(folder, 60)
    one.statuses[7].state = "running"
    assert progress_table(one.statuses).row_count == 1
    assert progress_table(one.statuses, most=60).row_count == 60
    assert counts(one.statuses) == "60 runs: 59 waiting, 1 running"


def test_a_process_that_cannot_begin_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    executor = LocalExecutor(1)
    job = Job("nothing", {}, str(tmp_path), str(tmp_path / "logs" / "run.log"), [])
    outcome = executor.start(job).result(timeout=60)
    assert (outcome.state, "ended with status 1" in outcome.text) == ("lost", True)
    executor.close()


def test_a_ray_cluster_that_is_begun_here_has_the_cpus_that_its_jobs_ask_for(monkeypatch):
    """With fewer, no job would ever start."""
    begun = {}
    ray = SimpleNamespace(
        init=lambda **options: begun.update(options), remote=lambda **options: lambda function: function
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    make_executor("ray", workers=3, cpus=2)
    assert (begun["num_cpus"], begun["num_gpus"]) == (6, 0)
    begun.clear()
    make_executor("ray", workers=3, cpus=2, ray_address="there:6379")
    assert (begun["address"], "num_cpus" in begun) == ("there:6379", False)


def test_each_job_of_this_machine_sees_a_gpu_of_its_own(monkeypatch, tmp_path):
    """Three jobs on two GPUs; names are those that this process may use."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,9")
    seen, at_once = [], set()

    def carry_out(job, processes, environment):
        gpu = environment["CUDA_VISIBLE_DEVICES"]
        assert gpu not in at_once
        at_once.add(gpu)
        time.sleep(0.05)
        at_once.remove(gpu)
        seen.append(gpu)
        return Outcome("done", "")

    monkeypatch.setattr("asecalc_ml.jobs.executors.carry_out", carry_out)
    executor = LocalExecutor(3, gpus=2)
    jobs = [Job("nothing", {}, str(tmp_path), str(tmp_path / "log"), [], gpus=1)] * 3
    assert [future.result().state for future in [executor.start(job) for job in jobs]] == ["done"] * 3
    executor.close()
    assert set(seen) == {"4", "7"}


def test_jobs_of_two_gpus_do_not_wait_for_each_other(monkeypatch, tmp_path):
    """Three jobs on three GPUs, which are enough for one at a time."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,9")
    seen = []

    def carry_out(job, processes, environment):
        time.sleep(0.05)
        seen.append(environment["CUDA_VISIBLE_DEVICES"].split(","))
        return Outcome("done", "")

    monkeypatch.setattr("asecalc_ml.jobs.executors.carry_out", carry_out)
    executor = LocalExecutor(3, gpus=3)
    jobs = [Job("nothing", {}, str(tmp_path), str(tmp_path / "log"), [], gpus=2)] * 3
    started = [executor.start(job) for job in jobs]
    assert [future.result(timeout=20).state for future in started] == ["done"] * 3
    executor.close()
    assert [len(set(names)) for names in seen] == [2, 2, 2]
