"""Campaigns: many runs from one file, and the processes that make them."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.campaign.options import Campaign, GridPoint, expand

__all__ = ["Campaign", "GridPoint", "expand"]

_FORMER = ["Point"]

__getattr__ = lazily(__name__, dict.fromkeys(__all__ + _FORMER, "asecalc_ml.md_protocols.campaign.options"))
