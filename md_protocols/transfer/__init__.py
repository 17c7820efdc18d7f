"""Transfer tests: a model on molecules that it was not trained on."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.transfer.options import Transfer

__all__ = ["Transfer"]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.md_protocols.transfer.options"))
