"""Which known name somebody may have meant, and the message that asks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from asecalc_ml.config.synonyms import SYNONYMS
from asecalc_ml.config.unit_hints import OTHERS, SYMBOLS
from asecalc_ml.errors import Kind

SIMILAR = 0.75  # difflib's ratio, above which a name looks like another one misspelled
SHORTEST = 3  # letters of an abbreviation such as "temp"
FILLERS = {
    "n", "num", "number", "no", "max", "min", "of", "the", "in", "every", "total", "use", "value", "size",
}  # fmt: skip
UNITS = {unit.lower() for others in (SYMBOLS, *OTHERS.values()) for unit in others}


def _squeezed(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower()) or name


def _words(name: str) -> list[str]:
    """Words of a name without the unit at its end, in small letters and the singular."""
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word]
    unit_sizes = (n for n in (3, 2, 1) if n < len(words) and "_".join(words[-n:]) in UNITS)
    words = words[: len(words) - next(unit_sizes, 0)]
    return [word.removesuffix("s") if len(word) > SHORTEST else word for word in words] or [name]


def _letters(name: str) -> str:
    return "".join(_words(name))


def _telling(name: str) -> set[str]:
    return set(_words(name)) - FILLERS


def unknown_name_error(
    kind: type[Kind], complaint: str, name: object, known: Iterable[str], remedy: str = ""
) -> Kind:
    """Make the error about a name that does not exist, with the known name that may have been meant.

    Parameters
    ----------
    kind : type
        Class of the error, such as :class:`~asecalc_ml.errors.ConfigError`.
    complaint : str
        Beginning of the message, without a full stop.
    name : object
        The name as it was given; what is no text is compared as text.
    known : collection of str
        See :func:`nearest_name`.
    remedy : str
        Sentence that follows, such as a list of all names.

    Returns
    -------
    AsecalcError
        Its ``name`` and ``value`` are the given name, ``allowed`` are the known ones, and ``remedy`` asks for
        the nearest of them.

    Examples
    --------
    >>> from asecalc_ml.errors import ConfigError
    >>> known = ["d3", "zbl"]
    >>> error = unknown_name_error(ConfigError, "no correction 'zlb'", "zlb", known, "There are d3, zbl")
    >>> error.remedy
    "did you mean 'zbl'? There are d3, zbl"
    >>> print(unknown_name_error(ConfigError, "no correction 'q'", "q", known, "There are d3, zbl"))
    no correction 'q'. There are d3, zbl
    """
    known = list(known)
    nearest = nearest_name(str(name), known)
    hints = [f"did you mean {nearest!r}?"] if nearest else []
    hints += [remedy] if remedy else []
    end = ";" if nearest else "." * bool(remedy)
    return kind(
        f"{complaint}{end}", name=str(name), value=name, allowed=known, remedy=" ".join(hints) or None
    )


NOT_NEAR = (0, 0.0)
MEANINGS = {(_letters(word), _letters(name)) for name, words in SYNONYMS.items() for word in words}


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that a given one stands for or is a misspelling of.

    In this order: the same name in other capitals, with other underscores or hyphens; in the singular,
    without its unit or with another one; a name that other programs use; some of its words, or their
    beginnings; a similar spelling.

    Parameters
    ----------
    name : str
    known : iterable of str
        The first of equally near ones is taken.

    Returns
    -------
    str or None
        None if none of them is near.

    Examples
    --------
    >>> options = ["steps", "timestep_fs", "temperature_K", "relax_fmax_eV_A"]
    >>> [nearest_name(name, options) for name in ("temp", "dt", "fmax", "timstep_FS", "Time-Step")]
    ['temperature_K', 'timestep_fs', 'relax_fmax_eV_A', 'timestep_fs', 'timestep_fs']
    >>> nearest_name("pressure_GPa", options)
    """
    closest = max(known, key=lambda one: _closeness(name, one), default=None)
    return closest if closest is not None and _closeness(name, closest) > NOT_NEAR else None


def _closeness(name: str, known: str) -> tuple[int, float]:
    """Kind of likeness, higher for a surer one; of similar spellings how similar they are, too."""
    given, meant = _letters(name), _letters(known)
    surest_first = (
        _squeezed(name) == _squeezed(known),
        given == meant,
        (given, meant) in MEANINGS,
        _telling(name) == _telling(known) != set(),
        _shares_words(_telling(name), _telling(known)),
        _abbreviates(_words(name), _words(known)),
    )
    if any(surest_first):
        return (1 + len(surest_first) - surest_first.index(True), 0.0)
    similarity = max(_ratio(given, meant), _ratio(_squeezed(name), _squeezed(known)))
    return (1, similarity) if similarity >= SIMILAR or _is_swapped(given, meant) else NOT_NEAR


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _shares_words(given: set[str], known: set[str]) -> bool:
    """Return True if all words of one are words of the other."""
    one, other = sorted((given, known), key=len)
    return one <= other and len("".join(one)) >= SHORTEST


def _abbreviates(given: list[str], known: list[str]) -> bool:
    """Return True for "temp_end" and "lr", and for "relaxation" where the name is "relax"."""
    if set(given) <= FILLERS:
        return False
    letters, whole = "".join(given), "".join(known)
    are_beginnings = all(any(word.startswith(part) for word in known) for part in given)
    return (
        (len(letters) >= SHORTEST and (are_beginnings or whole.startswith(letters)))
        or (len(letters) > 1 and letters == "".join(word[0] for word in known))
        or (len(whole) > SHORTEST and letters.startswith(whole))
    )


def _is_swapped(given: str, known: str) -> bool:
    """Return True if the letters are the same in another order, as in "zlb"."""
    return len(given) >= SHORTEST and sorted(given) == sorted(known)
