"""Checks that others inherit or call, so that every plugin and every calculator is held to the same laws.

:class:`PotentialChecks`, :class:`ProtocolChecks`, :class:`AnalysisChecks` and :class:`DatasetChecks` are
classes to inherit in the tests of a plugin; they need pytest (``pip install 'asecalc-ml[test]'``).
:func:`check_calculator` needs no test tool. Each is imported when it is asked for.
"""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.conformance import check_calculator
    from asecalc_ml.testing.analyses import AnalysisChecks
    from asecalc_ml.testing.datasets import DatasetChecks
    from asecalc_ml.testing.models import register_untrained, untrained_card, untrained_model
    from asecalc_ml.testing.potentials import PotentialChecks
    from asecalc_ml.testing.protocols import ProtocolChecks

__all__ = [
    "AnalysisChecks",
    "DatasetChecks",
    "PotentialChecks",
    "ProtocolChecks",
    "check_calculator",
    "register_untrained",
    "untrained_card",
    "untrained_model",
]

__getattr__ = lazily(
    __name__,
    {
        "AnalysisChecks": "asecalc_ml.testing.analyses",
        "DatasetChecks": "asecalc_ml.testing.datasets",
        "PotentialChecks": "asecalc_ml.testing.potentials",
        "ProtocolChecks": "asecalc_ml.testing.protocols",
        "check_calculator": "asecalc_ml.conformance",
        "register_untrained": "asecalc_ml.testing.models",
        "untrained_card": "asecalc_ml.testing.models",
        "untrained_model": "asecalc_ml.testing.models",
    },
)
