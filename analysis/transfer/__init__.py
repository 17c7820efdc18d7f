"""The verdict of a transfer test."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.analysis.transfer.transfer import Transfer, TransferAnalysis, TransferResult

__all__ = ["Transfer", "TransferAnalysis", "TransferResult"]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.analysis.transfer.transfer"))
