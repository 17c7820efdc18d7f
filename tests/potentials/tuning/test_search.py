"""The scheduler of a search with executors that answer at once, its journal, and what is resumed."""

import csv
import errno
import json
import os
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest

from asecalc_ml import __version__
from asecalc_ml.config.options import dump_yaml
from asecalc_ml.errors import AsecalcError, RunBusyError, RunError, TuningError
from asecalc_ml.jobs.executors import Job, Outcome
from asecalc_ml.potentials.training.options import TrainOptions
from asecalc_ml.potentials.tuning import TuneOptions, read_search, scheduler
from asecalc_ml.potentials.tuning import folder as search_folder
from asecalc_ml.potentials.tuning.folder import SearchFolder
from asecalc_ml.potentials.tuning.journal import read_events
from asecalc_ml.potentials.tuning.scheduler import SearchScheduler, number_of_workers

SPACE = {
    "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]},
    "batch_size": {"integer": [1, 8]},
}


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scheduler, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(scheduler, "BUSY_WAIT_S", 0.02)


def options(**search) -> TuneOptions:
    return TuneOptions(
        name="toy",
        data={"format": "ase", "path": "frames.xyz"},
        max_epochs=9,
        search={"space": SPACE, "trials": 6, "method": "random", **search},
    )


def done(value: float) -> Outcome:
    return Outcome(
        "done", "", {"objectives": {"val_loss": value}, "numbers": {"epochs": 9, "cpu_seconds": 1.0}}
    )


def loss(job: Job) -> Outcome:
    given = job.message["options"]
    return done(1e3 * abs(given["optimizer"]["learning_rate"] - 1e-3) + given["batch_size"])


class Toy:
    """An executor that gives each job the outcome of a function, in this process."""

    def __init__(self, work: Callable[[Job], Outcome] = loss):
        self.work, self.started, self.closed = work, [], False

    def start(self, job: Job) -> Future[Outcome]:
        self.started.append(int(Path(job.message["directory"]).name))
        future: Future[Outcome] = Future()
        future.set_result(self.work(job))
        return future

    def close(self) -> None:
        self.closed = True


def run(given: TuneOptions, executor: Toy, resume: bool = False, workers: int = 1, **flags):
    folder = SearchFolder(given, resume, **flags)
    try:
        SearchScheduler(folder, workers).run(executor)
        folder.write_results()
    finally:
        folder.close()
    return read_search(folder.directory)


def values_of(results) -> list[dict]:
    return [trial.values for trial in results.trials]


class KilledError(BaseException):
    """Stands for kill -9: nothing after it is done."""


def killed_at(n_calls: int) -> Callable[[Job], Outcome]:
    calls = []

    def work(job: Job) -> Outcome:
        calls.append(job)
        if len(calls) == n_calls:
            raise KilledError
        return loss(job)

    return work


def test_a_search_ends_with_its_trials_and_a_row_for_each():
    results = run(options(), Toy())
    assert [trial.state for trial in results.trials] == ["done"] * 6
    rows = list(csv.DictReader(Path("tuning/toy/results.csv").read_text().splitlines()))
    assert [row["trial"] for row in rows] == list("123456")
    assert float(rows[3]["val_loss"]) == results.trials[3].objectives["val_loss"]
    assert float(rows[3]["optimizer.learning_rate"]) == results.trials[3].values["optimizer.learning_rate"]
    assert results.best[0].objectives["val_loss"] == min(t.objectives["val_loss"] for t in results.trials)


def test_the_same_seed_gives_the_same_trials_again():
    first = values_of(run(options(), Toy()))
    again = values_of(run(options(directory="again"), Toy()))
    other = values_of(run(options(directory="other", seed=1), Toy()))
    assert first == again != other


@pytest.mark.parametrize("killed", range(1, 7))
def test_a_resumed_search_has_the_trials_of_an_uninterrupted_one(killed):
    bayesian = {"method": "bayesian", "surrogate": "extra-trees", "initial_trials": 2}
    straight = values_of(run(options(directory="straight", **bayesian), Toy()))
    with pytest.raises(KilledError):
        run(options(**bayesian), Toy(killed_at(killed)))
    executor = Toy()
    results = run(options(**bayesian), executor, resume=True)
    assert executor.started == list(range(killed, 7))  # the one in flight first, and none twice
    assert values_of(results) == straight
    assert [trial.state for trial in results.trials] == ["done"] * 6


def test_a_search_that_has_ended_gets_more_trials():
    run(options(trials=3), Toy())
    executor = Toy()
    longer = run(options(trials=6), executor, resume=True)
    assert executor.started == [4, 5, 6]
    assert values_of(longer) == values_of(run(options(directory="straight"), Toy()))
    run(options(trials=6), nothing := Toy(), resume=True)
    assert nothing.started == []


def test_failed_trials_are_recorded_with_their_reason_and_not_repeated():
    outcomes = {
        1: Outcome("failed", "model: hidden_channels is 16;\nit must be even"),
        3: Outcome("failed", "OutOfMemoryError: CUDA out of memory"),
    }
    executor = Toy(lambda job: outcomes.get(int(Path(job.message["directory"]).name), loss(job)))
    results = run(options(), executor)
    assert executor.started == [1, 2, 3, 4, 5, 6]
    assert results.trials[0].reason == "model: hidden_channels is 16; it must be even"
    assert [trial.state for trial in results.trials] == ["failed", "done", "failed", "done", "done", "done"]
    assert all(trial.objectives for trial in results.best)


def test_a_search_of_which_every_trial_fails_ends():
    results = run(options(), Toy(lambda job: Outcome("failed", "no")))
    assert [trial.state for trial in results.trials] == ["failed"] * 6
    assert results.best == []


def test_a_lost_trial_is_continued_as_often_as_retries_say():
    lost, n_lost = Outcome("lost", "its process was killed by SIGKILL"), []

    def work(job: Job) -> Outcome:
        if job.message["directory"].endswith("0002"):
            n_lost.append(job.message["token"])
            return lost
        return loss(job)

    executor = Toy(work)
    results = run(options(trials=3, retries=2), executor)
    assert executor.started == [1, 2, 2, 2, 3]
    assert len(set(n_lost)) == 3  # another lease each time
    assert results.trials[1].state == "failed"
    assert results.trials[1].reason == "its process was killed by SIGKILL (3 times)"


def test_a_busy_trial_is_tried_again_and_no_failure():
    answers = [Outcome("busy", "another process"), Outcome("busy", "another process")]
    executor = Toy(lambda job: answers.pop() if answers else loss(job))
    assert [trial.state for trial in run(options(trials=2), executor).trials] == ["done"] * 2
    assert executor.started.count(1) + executor.started.count(2) == 4


def test_no_more_at_once_than_workers_and_results_count_in_their_order():
    class Slow(Toy):
        def __init__(self):
            super().__init__()
            self.open, self.most = [], 0

        def start(self, job):
            self.open.append((job, Future()))
            self.most = max(self.most, len(self.open))
            return self.open[-1][1]

        def end_the_last(self, trial) -> None:
            if trial is None and self.open:
                job, future = self.open.pop()
                future.set_result(loss(job))

    executor, folder = Slow(), SearchFolder(options(trials=8), resume=False)
    try:
        SearchScheduler(folder, workers=3).run(executor, executor.end_the_last)
    finally:
        folder.close()
    assert executor.most == 3
    ended = [event["trial"] for event in read_events(Path("tuning/toy")) if event["kind"] == "ended"]
    assert ended[0] == 3
    assert sorted(ended) == list(range(1, 9))


def test_hours_count_over_all_sessions(monkeypatch):
    now = iter(range(1000, 10**6, 60))  # every event a minute later
    monkeypatch.setattr("asecalc_ml.potentials.tuning.journal.time.time", lambda: float(next(now)))
    results = run(options(trials=None, hours=0.2), Toy())  # 12 minutes, three events a trial
    assert len(results.trials) == 4
    assert len(run(options(trials=None, hours=0.4), Toy(), resume=True).trials) == 8


def test_a_worker_of_another_version_ends_the_search_and_fails_no_trial():
    with pytest.raises(TuningError, match=r"version 0\.0\.9 .* continue with --resume"):
        run(options(), Toy(lambda job: Outcome("refused", "a worker has version 0.0.9 of asecalc-ml")))
    assert [trial.state for trial in run(options(), Toy(), resume=True).trials] == ["done"] * 6


# --------------------------------------------------------------------------------- begun, resumed, refused


def test_a_search_is_neither_begun_twice_nor_resumed_without_one():
    with pytest.raises(TuningError, match="nothing to resume: tuning/toy holds no search; start without"):
        run(options(), Toy(), resume=True)
    assert not Path("tuning").exists()
    run(options(), Toy())
    with pytest.raises(TuningError, match="holds a search that has begun: continue with --resume"):
        run(options(), Toy())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": SPACE | {"max_epochs": {"integer": [2, 5]}}}, "search.space.max_epochs: none there"),
        (
            {"space": SPACE | {"batch_size": {"integer": [1, 16]}}},
            r"search.space.batch_size.integer: \[1, 8\] there, \[1, 16\] now",
        ),
        ({"seed": 3}, "search.seed: 0 there, 3 now"),
        ({"surrogate": "extra-trees"}, "search.surrogate: gaussian-process there, extra-trees now"),
        ({"objectives": {"speed": None}}, "search.objectives.validation"),
    ],
)
def test_another_search_is_not_resumed(changes, words):
    run(options(trials=2), Toy())
    with pytest.raises(TuningError, match=words):
        run(options(**changes), Toy(), resume=True)
    assert len(read_search("tuning/toy").trials) == 2


def test_another_training_is_not_resumed_and_other_workers_are():
    run(options(trials=2), Toy())
    other = options().model_copy(update={"max_epochs": 10})
    with pytest.raises(TuningError, match="max_epochs: 9 there, 10 now"):
        run(other, Toy(), resume=True)
    threads = options(workers=2, retries=9).model_copy(update={"threads": 2})
    assert len(run(threads, Toy(), resume=True).trials) == 6


def test_another_version_is_resumed_only_if_allowed(monkeypatch):
    run(options(trials=2), Toy())
    monkeypatch.setattr(search_folder, "__version__", "9.9.9")
    with pytest.raises(TuningError, match=r"this is 9.9.9: results may not compare.*--allow-different"):
        run(options(), Toy(), resume=True)
    assert len(run(options(), Toy(), resume=True, allow_different=True).trials) == 6


def test_two_processes_do_not_schedule_one_search():
    folder = SearchFolder(options(), resume=False)
    try:
        with pytest.raises(RunBusyError, match="another process is running this search"):
            SearchFolder(options(), resume=True)
    finally:
        folder.close()


# ------------------------------------------------------------------------------------------- the journal


def test_a_torn_last_line_does_not_count():
    with pytest.raises(KilledError):
        run(options(), Toy(killed_at(3)))
    path = Path("tuning/toy/journal.jsonl")
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for size in (last + 1, last + 10, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert len(read_search("tuning/toy").trials) == 3
    results = run(options(), Toy(), resume=True)
    assert [trial.state for trial in results.trials] == ["done"] * 6
    assert values_of(results) == values_of(run(options(directory="straight"), Toy()))


def test_a_damaged_line_is_named():
    run(options(trials=2), Toy())
    path = Path("tuning/toy/journal.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2][:-4], *lines[3:]]) + "\n")
    with pytest.raises(RunError, match=r"journal\.jsonl is damaged in line 3"):
        read_search("tuning/toy")


@pytest.mark.parametrize("n_whole", range(6))
def test_a_full_disk_ends_the_search_and_leaves_the_journal_whole(n_whole, monkeypatch):
    """After so many lines only a part of the next one finds room."""
    straight = values_of(run(options(directory="straight"), Toy()))
    room = [n_whole]

    class NearlyFull:
        def __init__(self, file):
            self._file = file

        def write(self, line):
            if room[0] == 0:
                room[0] = -1
                return self._file.write(line[:5])
            if room[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            room[0] -= 1
            return self._file.write(line)

        def __getattr__(self, name):
            return getattr(self._file, name)

    opens = Path.open

    def opened(path, *arguments, **kwargs):
        file = opens(path, *arguments, **kwargs)
        return NearlyFull(file) if path.name == "journal.jsonl" and "a" in str(arguments) else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(TuningError, match=r"journal.jsonl: No space left .* continue with --resume"):
            run(options(), Toy())
    text = Path("tuning/toy/journal.jsonl").read_text()
    assert text.count("\n") == n_whole
    assert [json.loads(line)["kind"] for line in text.splitlines()][:1] == ["begun"][:n_whole]
    results = run(options(), Toy(), resume=n_whole > 0)
    assert values_of(results) == straight


def test_a_pareto_front_has_what_nothing_else_dominates():
    pairs = [(1.0, 5.0), (2.0, 4.0), (2.0, 6.0), (3.0, 3.0), (3.0, 3.5), (9.0, 1.0)]

    def work(job: Job) -> Outcome:
        a, b = pairs[int(Path(job.message["directory"]).name) - 1]
        return Outcome(
            "done", "", {"objectives": {"val_loss": a, "call_ms": b}, "numbers": {"cpu_seconds": 1}}
        )

    results = run(options(objectives={"validation": None, "speed": None}), Toy(work))
    assert [trial.number for trial in results.best] == [1, 2, 4, 6]


def test_workers_by_default(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(8))
    assert number_of_workers(options()) == (8, 0)
    assert number_of_workers(options().model_copy(update={"threads": 3})) == (2, 0)
    assert number_of_workers(options(workers=5)) == (5, 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert number_of_workers(options()) == (2, 2)
    assert number_of_workers(options().model_copy(update={"device": "cpu"})) == (8, 0)


def test_a_trial_of_two_devices_takes_the_cores_and_gpus_of_both(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(8))
    given = options().model_copy(update={"devices": 2, "threads": 2})
    assert number_of_workers(given) == (2, 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 5)
    assert number_of_workers(given) == (2, 5)
    jobs = []

    def work(job: Job) -> Outcome:
        jobs.append((job.cpus, job.gpus))
        return loss(job)

    with closing(SearchFolder(given, resume=False)) as folder:
        SearchScheduler(folder, workers=2, gpus=5).run(Toy(work))
    assert set(jobs) == {(4, 2)}


def test_no_search_is_named():
    with pytest.raises(AsecalcError, match=r"nowhere holds no search: it has no journal\.jsonl"):
        read_search("nowhere")


def test_options_are_read_back_as_they_were():
    run(options(trials=1), Toy())
    stored = read_search("tuning/toy").options
    assert dump_yaml(stored) == dump_yaml(options(trials=1))
    assert stored.base == options(trials=1).base


def test_trials_are_a_group_at_the_tracker():
    """Under the name of the search, in files of earlier versions too, unless a group is given."""
    for tracked in ({"tracking": {"wandb": {"mode": "offline"}}}, {"wandb": {"mode": "offline"}}):
        given = TuneOptions(**options().model_dump(exclude={"tracking"}), **tracked)
        training = given.trial({"batch_size": 4}, Path("tuning/toy/trials/0001"))
        assert training["tracking"]["wandb"]["group"] == "toy"
        assert TrainOptions(**training).tracking["wandb"]["mode"] == "offline"
    given = TuneOptions(
        **options().model_dump(exclude={"tracking"}),
        tracking={"wandb": {"group": "mine"}, "tensorboard": None},
    )
    assert given.trial({}, Path())["tracking"]["wandb"]["group"] == "mine"
    assert "tracking" not in options().trial({}, Path())


# ---------------------------------------------------------------------------------- the record for a report


def test_a_trial_ends_at_a_time_of_the_search_without_its_interruptions(monkeypatch):
    """Ten seconds for each event, and a day between two sessions."""
    times = iter([*range(0, 1000, 10)])
    monkeypatch.setattr("asecalc_ml.potentials.tuning.journal.time.time", lambda: float(next(times)))
    with pytest.raises(KilledError):
        run(options(), Toy(killed_at(3)))
    later = iter(range(86_400, 87_400, 10))
    monkeypatch.setattr("asecalc_ml.potentials.tuning.journal.time.time", lambda: float(next(later)))
    results = run(options(), Toy(), resume=True)
    # begun; submitted, started and ended of two trials; submitted and started of the third, which is lost;
    # resumed, then started and ended of the third
    ended = [trial.ended_after_seconds for trial in results.trials]
    assert ended == [30, 60, 80 + 20, 130, 160, 190]
    assert results.seconds == 190
    assert results.trials[2].ended == 86_420


def test_the_record_of_a_search_is_what_its_journal_holds():
    def work(job: Job) -> Outcome:
        return Outcome("failed", "no memory", {}) if job.message["directory"].endswith("2") else loss(job)

    results = run(options(), Toy(work))
    record = results.record
    assert (record.name, record.version, record.seconds) == ("toy", __version__, results.seconds)
    assert [one.name for one in record.parameters] == list(SPACE)
    assert [one.distribution for one in record.parameters] == [
        "log-uniform: 0.0001 to 0.01",
        "integer: 1 to 8",
    ]
    assert record.settings["method"] == "random"
    assert record.settings["surrogate"] is None
    assert [(one.number, one.state, one.reason) for one in record.trials[:2]] == [
        (1, "done", ""),
        (2, "failed", "no memory"),
    ]
    for trial, one in zip(results.trials, record.trials, strict=True):
        assert (one.values, one.objectives) == (trial.values, trial.objectives)
        assert one.cpu_seconds == trial.numbers.get("cpu_seconds")
    assert record.best[0].number == results.best[0].number
    assert type(record).model_validate_json(record.model_dump_json()) == record


def test_a_value_outside_its_space_names_the_journal():
    run(options(), Toy())
    path = Path("tuning/toy/journal.jsonl")
    path.write_text(path.read_text().replace('"batch_size": ', '"batch_size": "a", "b": '))
    with pytest.raises(AsecalcError, match="journal"):
        _ = read_search("tuning/toy").record
