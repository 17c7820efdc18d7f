"""The report of a run: one HTML page."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.analysis.report.report import (
        calculator_name,
        key_facts,
        model_rows,
        run_title,
        target_course,
        write_report,
    )

__all__ = ["calculator_name", "key_facts", "model_rows", "run_title", "target_course", "write_report"]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.analysis.report.report"))
