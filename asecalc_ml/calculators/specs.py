"""Names with arguments from which the factory makes the same calculator again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ase.calculators.calculator import BaseCalculator

from asecalc_ml.calculators.protocol import Spec, offered


def named_spec(name: str, arguments: Mapping[str, Any]) -> Spec:
    """The name alone where there are no arguments, else a mapping of the name to its arguments."""
    return {name: dict(arguments)} if arguments else name


def calculator_spec(calculator: BaseCalculator, given: Any = None) -> Spec | None:
    """What :func:`asecalc_ml.calculators.factory.make_calculator` makes the same calculator from.

    Parameters
    ----------
    calculator : calculator
    given : str or mapping, optional
        The name with arguments that it was made from, for calculators which do not offer ``spec()``.

    Returns
    -------
    str, dict or None
        Ready for JSON; a registered model is named with its hash. None if the arguments are not known: the
        parameters of other packages' calculators may lack arguments, or hold more than arguments.
    """
    own = offered(calculator).spec()
    if own is not None or given is None:
        return own
    try:
        return json.loads(json.dumps(given))
    except TypeError:  # an argument that is an object
        return None
