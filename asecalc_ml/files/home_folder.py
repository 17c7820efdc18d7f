"""Errors about folders of a user who has no home folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from asecalc_ml.errors import ConfigError


@contextlib.contextmanager
def needing_a_home(variable: str) -> Iterator[None]:
    """Turn the error of a user without a home folder into one that names the remedy.

    Parameters
    ----------
    variable : str
        Environment variable that names the folder in question.

    Raises
    ------
    ConfigError
        If HOME is not set and the user has no entry in passwd.
    """
    try:
        yield
    except RuntimeError as error:
        raise ConfigError(
            "no home folder is known: HOME is not set, and this user has no entry in passwd.",
            name="HOME",
            remedy=f"Set {variable} to a folder of your own",
        ) from error
