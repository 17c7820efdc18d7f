"""For mypy alone: the optional members of our calculators agree with the protocol.

A class with two bases whose definitions of a member do not agree is an error of mypy's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asecalc_ml.calculators.committee import Committee
    from asecalc_ml.calculators.corrections import Corrected
    from asecalc_ml.calculators.dft import DFT
    from asecalc_ml.calculators.ml_calculator import MLCalculator
    from asecalc_ml.calculators.protocol import ExtendedCalculator
    from asecalc_ml.calculators.xtb import GFN2

    class _Model(MLCalculator, ExtendedCalculator): ...

    class _Committee(Committee, ExtendedCalculator): ...

    class _Corrected(Corrected, ExtendedCalculator): ...

    class _GFN2(GFN2, ExtendedCalculator): ...

    class _DFT(DFT, ExtendedCalculator): ...
