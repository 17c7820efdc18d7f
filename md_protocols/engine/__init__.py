"""Runs the stages of a protocol, and resumes a run that was interrupted."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.engine.engine import Engine, Observers

__all__ = ["Engine", "Observers"]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.md_protocols.engine.engine"))
