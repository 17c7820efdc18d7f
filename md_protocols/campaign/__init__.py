"""Campaigns: many runs from one file, and the processes that make them."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.campaign.options import Campaign, GridPoint, expand

__all__ = ["Campaign", "GridPoint", "expand"]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.md_protocols.campaign.options"))
