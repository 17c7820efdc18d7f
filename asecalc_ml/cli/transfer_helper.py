"""Makes some of the runs of a transfer test, in a process of its own.

`python -m asecalc_ml.cli.transfer_helper DIRECTORY THREADS`. When its standard input closes, the process that
makes the test is gone, killed or not: the run pauses.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from asecalc_ml.cli.process import end_with_the_parent, set_threads, show_messages
from asecalc_ml.errors import AsecalcError, RunPausedError
from asecalc_ml.terminal.console import print_line


def main() -> None:
    """Help until all runs are over."""
    directory, threads = Path(sys.argv[1]), int(sys.argv[2])
    set_threads(threads)
    show_messages(quiet=True)
    end_with_the_parent()
    from asecalc_ml.md_protocols.transfer.helpers import help_with

    try:
        with suppress(RunPausedError):
            help_with(directory)
    except AsecalcError as error:
        print_line(f"Warning: a process that helped has ended: {error}", stderr=True)


if __name__ == "__main__":
    main()
