"""Curves of a scan."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.analysis.scan.scan import Scan, ScanAnalysis, ScanResult

__all__ = ["Scan", "ScanAnalysis", "ScanResult"]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.analysis.scan.scan"))
