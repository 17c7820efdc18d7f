"""Which known name somebody may have meant."""

import difflib
from collections.abc import Iterable


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that is spelled most like the given one, capitals aside.

    Examples
    --------
    >>> nearest_name("timstep_FS", ["steps", "timestep_fs"])
    'timestep_fs'
    >>> nearest_name("pressure_GPa", ["steps"])
    """
    by_lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None
