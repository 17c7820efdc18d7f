"""The report of a run: one HTML page."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.analysis.report.report import (
        Completion,
        Row,
        all_verdicts,
        bound_verdict,
        calculator_name,
        checked,
        completion,
        event_row,
        flat_rows,
        key_facts,
        model_rows,
        option_rows,
        readable_verdict,
        render,
        run_title,
        shown,
        structure_name,
        target_course,
        write_report,
    )

__all__ = [
    "Completion",
    "Row",
    "all_verdicts",
    "bound_verdict",
    "calculator_name",
    "checked",
    "completion",
    "event_row",
    "flat_rows",
    "key_facts",
    "model_rows",
    "option_rows",
    "readable_verdict",
    "render",
    "run_title",
    "shown",
    "structure_name",
    "target_course",
    "write_report",
]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.analysis.report.report"))
