"""Option type for element patterns, checked when options are read."""

from typing import Annotated

from pydantic import AfterValidator


def _with_length(n_elements: int, example: str):
    def check(pattern: str) -> str:
        from asecalc_ml.errors import ConfigError
        from asecalc_ml.topology import canonical_pattern

        try:
            canonical = canonical_pattern(pattern)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if len(canonical.split("-")) != n_elements:
            raise ValueError(f"pattern {pattern!r}: expected {n_elements} elements, such as {example!r}")
        return canonical

    return AfterValidator(check)


BondPattern = Annotated[str, _with_length(2, "C-O")]
AnglePattern = Annotated[str, _with_length(3, "C-C-O")]
