"""The report of a hyperparameter search."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.analysis.search.page import write_search_page

__all__ = ["write_search_page"]

__getattr__ = lazily(__name__, dict.fromkeys(__all__, "asecalc_ml.analysis.search.page"))
