"""A calculator under the argument names of benchmark hubs, such as ml-peg and mlipx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asecalc_ml.calculators.factory import make_calculator

if TYPE_CHECKING:
    from pathlib import Path

    from ase.calculators.calculator import BaseCalculator

    from asecalc_ml.calculators.factory import CalculatorSpec


def hub_calculator(
    model: CalculatorSpec,
    device: str | None = None,
    default_dtype: str | None = None,
    directory: str | Path | None = None,
) -> BaseCalculator:
    """Build a calculator from the arguments that benchmark hubs pass.

    Parameters
    ----------
    model : str or mapping
        Registered name, ``name@hash`` or a model file, with parameters as in
        ``{"my-model": {"skin_A": 0.5}}``, or a committee; see
        :func:`asecalc_ml.calculators.factory.make_calculator`.
    device : str, optional
        "cpu", "cuda", "cuda:1", ...; the CPU if not given.
    default_dtype : {"float32", "float64"}, optional
        The parameter ``dtype`` of :class:`asecalc_ml.MLCalculator`; the type that the model was trained in
        if not given.
    directory : str or Path, optional
        Not used, since the calculator writes no files; mlipx passes it for diatomic molecules.

    Returns
    -------
    MLCalculator
        Or a committee, or a calculator with corrections, if ``model`` asks for one.

    Raises
    ------
    ModelError
        If no model of that name is registered.
    ConfigError
        If a parameter is unknown.

    Notes
    -----
    There is no ``**kwargs``, since ml-peg refuses arguments that a signature does not name.

    Examples
    --------
    >>> calculator = hub_calculator(model="torchmdnet-ethanol", device="cpu", default_dtype="float64")
    >>> calculator.parameters.dtype
    'float64'
    """
    given = {"device": device, "dtype": default_dtype}
    return make_calculator(model, **{key: value for key, value in given.items() if value})
