"""Process that starts or continues one run of a campaign, and analyses it."""

from __future__ import annotations

from pathlib import Path

from asecalc_ml.cli.process import carry_out_job
from asecalc_ml.errors import RunError, RunPausedError


def work(message: dict) -> tuple[str, str]:
    """Carry the run out; its state in the end, and why."""
    return _carry_out(Path(message["directory"]), message["options"])


def _carry_out(directory: Path, options: dict) -> tuple[str, str]:
    from asecalc_ml.cli.analyse import analyse
    from asecalc_ml.md_protocols.campaign.state import DONE, STOPPED
    from asecalc_ml.runs import RunReader

    try:
        _run(directory, options)
    except RunPausedError:
        raise
    except RunError:
        if not _has_stopped(directory):
            raise
    analyse(directory)
    run = RunReader(directory)
    return (DONE, "") if run.finished else (STOPPED, run.ended_early or "")


def _run(directory: Path, options: dict) -> None:
    """Begin a run, or go on with one that is not over."""
    from asecalc_ml import plugins
    from asecalc_ml.config.options import parse_options
    from asecalc_ml.md_protocols.engine.resume import resume_run
    from asecalc_ml.runs import PROTOCOL

    if not (directory / PROTOCOL).is_file():
        model = plugins.get("protocols", options["protocol"])
        parse_options(options, model).run(directory=directory, quiet=True)
    elif not _has_stopped(directory):
        resume_run(directory, quiet=True, changes={key: options[key] for key in ("steps",) if key in options})


def _has_stopped(directory: Path) -> bool:
    """Whether the run has met a condition of its own `stop`."""
    from asecalc_ml.runs import PROTOCOL, RunReader

    return (directory / PROTOCOL).is_file() and RunReader(directory).stopped_as_asked


def main() -> None:
    """Do what the standard input says."""
    carry_out_job(work, threads=lambda message: message["options"].get("threads"))


if __name__ == "__main__":
    main()
