"""One run of a campaign in a process of its own: begun, or gone on with, and analysed.

`python -m asecalc_ml.cli.campaign.worker` reads what to do as one line of JSON from its standard input. When
that closes, the process that wanted the run is gone, killed or not: the run pauses. What came out is the last
line of the standard output.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

from asecalc_ml.cli.errors import explain
from asecalc_ml.cli.process import end_with_the_parent, set_threads, show_messages
from asecalc_ml.errors import AsecalcError, RunBusyError, RunError, RunPausedError
from asecalc_ml.local_modules import search_also
from asecalc_ml.md_protocols.campaign.executors import BUSY, FAILED, PAUSED


def main() -> None:
    """Do what the standard input says."""
    job = json.loads(sys.stdin.readline())
    search_also(*job["module_folders"])
    end_with_the_parent()
    set_threads(job["options"].get("threads"))
    show_messages(quiet=True)
    state, text = _outcome(job)
    print(json.dumps({"state": state, "text": text}), flush=True)


def _outcome(job: dict) -> tuple[str, str]:
    try:
        return _carry_out(Path(job["directory"]), job["options"])
    except RunPausedError as error:
        return PAUSED, str(error)
    except RunBusyError as error:
        return BUSY, str(error)
    except AsecalcError as error:
        return FAILED, str(error)
    except OSError as error:
        return FAILED, explain(error)
    except Exception as error:  # a calculator may raise anything; one run must not end the others
        traceback.print_exc()
        return FAILED, f"{type(error).__name__}: {error}"


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


if __name__ == "__main__":
    main()
