"""Checks of errors by their attributes, so that messages can be reworded."""

from collections.abc import Callable, Collection
from typing import Any

from asecalc_ml.errors import AsecalcError


def told(**expected: Any) -> Callable[[AsecalcError], bool]:
    """Return a ``check`` for ``pytest.raises``: the error has these attributes, and says each of them.

    An expected text has to be part of the attribute, or of an item of it; a collection given as ``allowed``
    has to be among what is allowed; any other value has to be equal. ``remedy=True`` asks for some remedy.
    """

    def check(error: AsecalcError) -> bool:
        for attribute, value in expected.items():
            actual = getattr(error, attribute)
            fits = _is_among if attribute == "allowed" else _fits
            assert fits(actual, value), f"{attribute} is {actual!r}, not {value!r}: {error}"
        assert error.name is None or str(error.name) in str(error), f"{error.name!r} is not in: {error}"
        return True

    return check


def _fits(actual: Any, expected: Any) -> bool:
    if expected is True:
        return bool(actual)
    if isinstance(expected, str):
        texts = actual if isinstance(actual, list | tuple) else [actual]
        return any(isinstance(text, str) and expected in text for text in texts)
    return bool(actual == expected)


def _is_among(allowed: Any, expected: Any) -> bool:
    if isinstance(expected, Collection) and not isinstance(expected, str):
        return allowed is not None and set(expected) <= set(allowed)
    return _fits(allowed, expected)
