"""Numbers as text: for verdicts, captions and tables."""

from math import floor, log10


def percent(fraction: float) -> str:
    """A fraction in percent with two significant digits; what is not zero does not look like zero.

    Examples
    --------
    >>> percent(0.0), percent(0.1234), percent(1e-6), percent(1.0)
    ('0 %', '12 %', '< 0.01 %', '100 %')
    """
    if 0 < fraction < 1e-4:
        return "< 0.01 %"
    return f"{100 * fraction:.0f} %" if fraction >= 0.1 or fraction == 0 else f"{100 * fraction:.2g} %"


def with_error(value: float, error: float) -> str:
    """A value and its error, both to the error's second significant digit.

    Examples
    --------
    >>> with_error(1.530298, 0.000162), with_error(-0.1, 0.0)
    ('1.53030 ± 0.00016', '−0.1 ± 0')
    """
    if error == 0:
        return f"{minus(f'{value:g}')} ± 0"
    decimals = max(0, 1 - floor(log10(error)))
    return f"{minus(f'{value:.{decimals}f}')} ± {error:.{decimals}f}"


def minus(text: str) -> str:
    """A number's text with a minus sign in place of the hyphen."""
    return text.replace("-", "−")


def number_text(value: float) -> str:
    """A number for a table's reader; the exact one stands in the files.

    Examples
    --------
    >>> number_text(20001), number_text(1.512345), number_text(-0.0012345)
    ('20,001', '1.5123', '−0.00123')
    """
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:.5g}" if abs(value) >= 1 else f"{value:.3g}"
    return minus(text)
