"""What every ASE calculator owes its users, measured: forces, stress, symmetries, state, dynamics."""

from asecalc_ml.conformance.result import CheckResult, Report
from asecalc_ml.conformance.runner import check_calculator
from asecalc_ml.conformance.subject import Effort

__all__ = ["CheckResult", "Effort", "Report", "check_calculator"]
