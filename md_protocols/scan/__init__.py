"""Scans of one internal coordinate."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.scan.options import Scan

__all__ = ["Scan"]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.md_protocols.scan.options"))
