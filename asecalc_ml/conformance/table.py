"""The report as a table."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from asecalc_ml.outcome import COLOURS
from asecalc_ml.terminal.console import make_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from asecalc_ml.conformance.result import CheckResult, Report

WIDTH = 150  # of a page without a terminal


def print_report(report: Report, console: Console) -> None:
    """Print table and verdict."""
    console.print(_headline(report))
    console.print(_table(report))
    console.print(_conclusion(report))


def as_text(report: Report) -> str:
    """The same without colours."""
    text = io.StringIO()
    print_report(report, make_console(file=text, width=WIDTH))
    return text.getvalue()


def _table(report: Report) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("property", "measured", "bound", "verdict", "", box=None, pad_edge=False)
    for result in report.results:
        verdict = Text(result.verdict, COLOURS[result.verdict])
        note = (
            result.note
            if result.verdict != "failed"
            else f"{result.meaning}: {result.note}".removesuffix(": ")
        )
        table.add_row(result.name, *_numbers(result), verdict, Text(note))
    return table


def _numbers(result: CheckResult) -> tuple[str, str]:
    if result.figure is None:
        return "", ""
    return f"{result.figure:.2g} {result.unit}".strip(), "" if result.bound is None else f"{result.bound:.1e}"


def _headline(report: Report) -> str:
    noise = "" if report.noise_eV is None else f", energies round at {report.noise_eV:.1e} eV"
    return f"{report.calculator['name']} on {report.structure}: bounds of {report.dtype}{noise}"


def _conclusion(report: Report) -> str:
    if report.passed:
        return "All checks passed that apply."
    outcomes = {"failed": report.failed, "undecided": report.undecided}
    return (
        "; ".join(f"{len(names)} {word}: {', '.join(names)}" for word, names in outcomes.items() if names)
        + "."
    )
