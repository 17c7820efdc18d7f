"""A calculator under the argument names of benchmark hubs, such as ml-peg and mlipx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asecalc_ml.calculators import make_calculator

if TYPE_CHECKING:
    from ase.calculators.calculator import BaseCalculator

    from asecalc_ml.calculators import CalculatorSpec


def hub_calculator(
    model: CalculatorSpec, device: str | None = None, default_dtype: str | None = None, **arguments
) -> BaseCalculator:
    """Build a calculator from the arguments ``device`` and ``default_dtype``, which benchmark hubs pass.

    Parameters
    ----------
    model : str or mapping
        Registered name, ``name@hash``, a model file, or a committee as
        :func:`asecalc_ml.calculators.make_calculator` takes it.
    device : str, optional
        "cpu", "cuda", "cuda:1", ...; the CPU if not given.
    default_dtype : {"float32", "float64"}, optional
        The parameter ``dtype`` of :class:`asecalc_ml.MLCalculator`; the type that the model was trained in
        if not given.
    **arguments
        Further parameters of the calculator, such as ``corrections``.

    Returns
    -------
    MLCalculator
        Or a committee, or a calculator with corrections, if these are asked for.

    Raises
    ------
    ModelError
        If no model of that name is registered.
    ConfigError
        If an argument is unknown.

    Examples
    --------
    >>> calculator = hub_calculator(model="torchmdnet-ethanol", device="cpu", default_dtype="float64")
    >>> calculator.parameters.dtype
    'float64'
    """
    given = {"device": device, "dtype": default_dtype}
    return make_calculator(model, **{key: value for key, value in given.items() if value}, **arguments)
