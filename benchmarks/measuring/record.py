"""What a benchmark measured: tables in the terminal, and JSON with the machine that it was measured on.

A script makes :class:`Table` objects and hands them to :func:`publish`. ``benchmarks/page.py`` makes one page
of the JSON files.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch", "torchmd-net", "schnetpack", "ase", "numpy")


class Strict(BaseModel):
    """A part of a record, without unknown fields."""

    model_config = ConfigDict(extra="forbid")


class Spread(Strict):
    """Median and quartiles over turns."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray, factor: float = 1.0) -> Spread:
        """Quartiles of values, times a factor that converts the unit."""
        lower, median, upper = factor * np.quantile(values, (0.25, 0.5, 0.75))
        return cls(median=median, lower=lower, upper=upper)

    def __str__(self) -> str:
        if self.lower == self.upper:  # of a single turn
            return digits(self.median)
        return f"{digits(self.median)} ({digits(self.lower)} to {digits(self.upper)})"


Cell = Spread | int | float | str


class Table(Strict):
    """Figures that belong together.

    Parameters
    ----------
    title : str
    method : str
        How the figures were made, in sentences: what is compared with what, in which unit, how often.
    columns : list of str
        Names with units, as in "step (ms)".
    rows : list of lists
        Text, numbers, or a :class:`Spread` where there were several turns.
    """

    title: str
    method: str
    columns: list[str]
    rows: list[list[Cell]]


class Machine(Strict):
    """What figures depend on beside the code that is measured."""

    processor: str
    device: str
    threads: int
    python: str
    versions: dict[str, str]
    commit: str


class Record(Strict):
    """Everything that one run of a benchmark measured."""

    benchmark: str
    title: str
    command: str
    machine: Machine
    tables: list[Table]


def parser(text: str) -> argparse.ArgumentParser:
    """The options that every benchmark has; the docstring of the script says the rest."""
    options = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", type=Path, metavar="FILE", help="write the record to this file as well")
    options.add_argument(
        "--quick", action="store_true", help="smallest sizes, which show that the script runs"
    )
    options.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    options.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    return options


def publish(options: argparse.Namespace, title: str, tables: Sequence[Table]) -> Record:
    """Print the tables, and write the record where ``--json`` was given."""
    record = Record(
        benchmark=Path(sys.argv[0]).stem,
        title=title,
        command=command_of(*sys.argv),
        machine=_machine(options),
        tables=list(tables),
    )
    for table in tables:
        print(f"\n{table.title}\n{as_text(table)}", flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return record


def digits(value: float) -> str:
    """A figure with three significant digits, and whole numbers in full."""
    if value == 0 or not np.isfinite(value):
        return f"{value:.0f}"
    if abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:,.{max(0, 2 - int(np.floor(np.log10(abs(value)))))}f}"


def shown(cell: Cell) -> str:
    """A cell as it stands in a table."""
    if isinstance(cell, float):
        return digits(cell)
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def as_text(table: Table) -> str:
    """Columns as wide as their widest cell."""
    lines = [table.columns, *([shown(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def command_of(script: str, *arguments: str) -> str:
    """The command that measures again, without the file that the record goes to."""
    to_file = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    to_file.add_argument("--json")
    kept = to_file.parse_known_args(arguments)[1]
    return shlex.join(["python", f"benchmarks/{Path(script).name}", *kept])


def _machine(options: argparse.Namespace) -> Machine:
    from asecalc_ml.versions import installed_versions

    return Machine(
        processor=f"{_processor()}, {platform.system()} {platform.machine()}",
        device=_device(options.device),
        threads=options.threads,
        python=platform.python_version(),
        versions=installed_versions(PACKAGES),
        commit=_commit(),
    )


def _processor() -> str:
    """Model of the processor as Linux names it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def _device(name: str) -> str:
    if name == "cpu":
        return name
    import torch

    return torch.cuda.get_device_name(name)


def _commit() -> str:
    """Commit of the checkout, marked where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
