"""From the options of an architecture to its potential."""

from __future__ import annotations

from numbers import Real
from typing import Protocol, cast

from asecalc_ml.config.options import Options
from asecalc_ml.contracts import plugin_code, returned
from asecalc_ml.errors import PluginError
from asecalc_ml.model.potential import Potential


class _Architecture(Protocol):
    """What :mod:`asecalc_ml.contracts` requires of an architecture's options."""

    def build(self) -> Potential: ...


def build_potential(options: Options) -> Potential:
    """The potential of an architecture's options.

    Parameters
    ----------
    options : Options
        Options of a registered architecture.

    Raises
    ------
    PluginError
        If ``build`` returns something else, or a potential without a cutoff.
    """
    what = f"{type(options).__name__}.build()"
    with plugin_code(what):
        potential = cast(_Architecture, options).build()
    if not isinstance(potential, Potential):
        raise returned(what, potential, "a Potential (asecalc_ml.model.potential)")
    if not isinstance(getattr(potential, "cutoff", None), Real):
        raise PluginError(
            f"{type(potential).__name__} has no cutoff",
            name=type(potential).__name__,
            remedy="set `self.cutoff`, a number in Å, in its __init__",
        )
    return potential
