"""One page of the records of all benchmarks, in the order of the files.

python benchmarks/page.py benchmarks/results/*.json > docs/benchmarks.md
"""

import sys
from pathlib import Path

from measuring.record import Machine, Record, Table, shown

BAR = "\\|"  # a bar inside a cell
HEAD = """# Benchmarks

<!-- Generated: python benchmarks/page.py benchmarks/results/*.json > docs/benchmarks.md -->

Where work was done in alternating turns, a figure is the median over the turns, with the quartiles in
parentheses. Ratios are taken within each turn, so that other work on the machine meets both sides alike:
times measured on different days, or machines, compare less well than ratios do.
Each section names the command that measures it again; `--json FILE` writes the record shown here.
"""


def page(records: list[Record]) -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *map(_section, records)])


def _section(record: Record) -> str:
    parts = [f"## {record.title}", f"```bash\n{record.command}\n```", *map(_table, record.tables)]
    return "\n\n".join([*parts, _where(record.machine)]) + "\n"


def _table(table: Table) -> str:
    cells = [table.columns, *([shown(cell) for cell in row] for row in table.rows)]
    head, *body = [f"| {' | '.join(cell.replace('|', BAR) for cell in line)} |" for line in cells]
    rows = "\n".join([head, "|" + " --- |" * len(table.columns), *body])
    return f"### {table.title}\n\n{table.method}\n\n{rows}"


def _where(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    threads = f"{machine.threads} thread" + "s" * (machine.threads != 1)
    return (
        f"Measured on {machine.processor}, device {machine.device}, {threads}, Python {machine.python}, "
        f"{versions}, commit {machine.commit}."
    )


def main(files: list[str]) -> None:
    records = [Record.model_validate_json(Path(file).read_text(encoding="utf-8")) for file in files]
    print(page(records), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
