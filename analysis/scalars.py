"""The single numbers in a result, by name, for tables of many runs."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from asecalc_ml.statistics.histogram import Histogram

IDENTIFIERS = ("name", "label", "pattern", "element", "formula", "region", "wells", "well", "unit")
LONGEST = 30  # a longer list is one of members, not of results

Scalar = float | int | None


def scalars(record: BaseModel) -> dict[str, Scalar]:
    """Numbers of a record, of records in it, and of those in its lists that say what they are about.

    Names are joined by dots, and hold units as the fields do. Series and histograms are left out. A number
    that could not be found, such as an error of a run that is too short, is ``None``.

    Examples
    --------
    >>> class Mean(BaseModel):
    ...     name: str
    ...     mean_K: float
    ...     error_K: float | None
    >>> scalars(Mean(name="a", mean_K=300.0, error_K=None))
    {'mean_K': 300.0, 'error_K': None}
    """
    return dict(_numbers(record))


def _numbers(record: BaseModel) -> Iterator[tuple[str, Scalar]]:
    for name, value in record:
        if _is_number(value) or (value is None and _may_be_number(record, name)):
            yield name, value
        elif isinstance(value, BaseModel) and not isinstance(value, Histogram):
            yield from ((f"{name}.{inner}", number) for inner, number in _numbers(value))
        elif isinstance(value, list) and len(value) <= LONGEST:
            yield from _of_list(value)


def _of_list(values: list) -> Iterator[tuple[str, Scalar]]:
    for value in values:
        if isinstance(value, BaseModel) and (about := _about(value)):
            yield from ((f"{about}.{inner}", number) for inner, number in _numbers(value))


def _about(record: BaseModel) -> str:
    identifiers = (getattr(record, name, None) for name in IDENTIFIERS)
    return ".".join(identifier for identifier in identifiers if isinstance(identifier, str) and identifier)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _may_be_number(record: BaseModel, name: str) -> bool:
    return "float" in str(type(record).model_fields[name].annotation)
