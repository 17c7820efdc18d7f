"""Run the checks on a calculator; one that raises fails its check, and the suite goes on."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from asecalc_ml.calculators.factory import CalculatorSpec, describe_calculator, make_calculator
from asecalc_ml.calculators.protocol import need_energies, offered
from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.conformance.all_checks import CHECKS
from asecalc_ml.conformance.checks.process import ProcessState
from asecalc_ml.conformance.result import Check, CheckResult, Measured, NotApplicableError, Report
from asecalc_ml.conformance.structures import Structures, default_structures, make_structures
from asecalc_ml.conformance.subject import CalculatorUnderTest, Effort, ask
from asecalc_ml.errors import ConfigError, StructureError
from asecalc_ml.outcome import BY_GRAVITY, Outcome
from asecalc_ml.terminal.progress import make_progress


def check_calculator(
    calculator: CalculatorSpec | BaseCalculator,
    atoms: Atoms | None = None,
    *,
    only: Sequence[str] | None = None,
    effort: Effort | None = None,
    quiet: bool = True,
) -> Report:
    """Measure whether an ASE calculator keeps the laws.

    Parameters
    ----------
    calculator : str, mapping or calculator
        As :func:`asecalc_ml.calculators.factory.make_calculator` takes it. Where it is named, new ones are
        made for checks in which memory matters; an object is reset.
    atoms : Atoms, optional
        What to ask about, a molecule or a periodic structure. By default what the model's card holds, else
        ethanol or a crystal, whichever the calculator takes.
    only : sequence of str, optional
        Names of checks; all by default.
    effort : Effort, optional
    quiet : bool
        Show no progress.

    Returns
    -------
    Report
        ``passed``, ``failed``, ``undecided``, and one result per check; ``print(report)`` shows the table.

    Raises
    ------
    ConfigError
        If the calculator cannot be made, or a check is unknown.
    StructureError
        If no structure is given and the calculator takes none of ours.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> from asecalc_ml.testing import check_calculator
    >>> report = check_calculator(EMT(), bulk("Cu", cubic=True), only=["forces", "net force"])
    >>> report.passed
    True
    """
    chosen = _chosen(only)
    before = ProcessState.now()
    made = make_calculator(calculator)
    need_energies(made, "The conformance suite")
    make = None if isinstance(calculator, BaseCalculator) else partial(make_calculator, calculator)
    structures = make_structures(_default(made) if atoms is None else atoms)
    subject = CalculatorUnderTest(made, structures, make, before, effort or Effort())
    return _report(subject, _run_all(subject, chosen, quiet))


def _run_all(subject: CalculatorUnderTest, checks: Sequence[Check], quiet: bool) -> tuple[CheckResult, ...]:
    progress = make_progress(quiet)
    progress.start("checking", len(checks), unit="checks")
    results = []
    try:
        for check in checks:
            results.append(_run(subject, check))
            progress.advance(1)
        progress.end()
    finally:
        progress.close()
    return tuple(results)


def _run(subject: CalculatorUnderTest, check: Check) -> CheckResult:
    start = time.perf_counter()

    def ended(verdict: Outcome, **fields: Any) -> CheckResult:
        seconds = time.perf_counter() - start
        return CheckResult(check.name, check.meaning, verdict, **fields, seconds=seconds)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of others' calculators; what counts is measured
            worst = _worst(check.measure(subject))
    except (NotApplicableError, NotImplementedError) as error:
        return ended("not applicable", note=_one_line(error))
    except Exception as error:  # whatever a foreign calculator raises is its failure, not the suite's
        return ended("failed", note=f"raised {type(error).__name__}: {_one_line(error)}")
    return ended(worst.verdict, figure=worst.figure, bound=worst.bound, unit=worst.unit, note=worst.note)


def _worst(measured: Iterable[Measured]) -> Measured:
    """The figure that stands for its check."""
    return max(measured, key=lambda figure: (BY_GRAVITY.index(figure.verdict), figure.badness))


def _report(subject: CalculatorUnderTest, results: tuple[CheckResult, ...]) -> Report:
    try:
        dtype, noise = subject.dtype, subject.noise_eV
    except Exception:  # a calculator that gives no energy has failed its checks; this is the headline
        dtype, noise = "float64", None
    described = describe_calculator(subject.calculator)
    return Report(described, subject.structures.formula, dtype, noise, results)


def _default(calculator: BaseCalculator) -> Atoms:
    card = offered(calculator).card
    if card is not None and card.golden is not None:
        from asecalc_ml.store.golden import golden_atoms

        return golden_atoms(card.golden)
    for atoms in default_structures():
        if _takes(calculator, make_structures(atoms)):
            return atoms
    raise StructureError(
        "this calculator takes none of ethanol, copper, silicon, argon and salt",
        value=type(calculator).__name__,
        remedy="name a structure that it takes with --atoms FILE, or atoms= in Python",
    )


def _takes(calculator: BaseCalculator, structures: Structures) -> bool:
    try:
        ask(calculator, structures.given.copy())
        ask(calculator, structures.molecule.copy())
    except Exception:  # whatever a foreign calculator raises at elements that it does not know
        return False
    return True


def _chosen(only: Sequence[str] | None) -> Sequence[Check]:
    if only is None:
        return CHECKS
    known = [check.name for check in CHECKS]
    for name in only:
        if name not in known:
            remedy = f"There are {', '.join(known)}"
            raise unknown_name_error(ConfigError, f"no check {name!r}", name, known, remedy)
    return [check for check in CHECKS if check.name in only]


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:197]}..."
