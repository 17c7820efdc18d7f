"""The command `asecalc-md campaign`, its processes, table and progress."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.cli.campaign.command import campaign, check_campaign, validate_campaign

__all__ = ["campaign", "check_campaign", "validate_campaign"]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.cli.campaign.command"))
