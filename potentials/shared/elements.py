"""Which elements a model takes, as an option."""

from typing import Annotated

from ase.data import chemical_symbols
from pydantic import AfterValidator, Field


def _symbols(elements: list[str]) -> list[str]:
    if set(elements) - set(chemical_symbols[1:]) or len(set(elements)) < len(elements):
        raise ValueError(f"elements is {elements}: give element symbols, each once, such as [H, C, N, O]")
    return elements


#: Element symbols, each once; training refuses data that hold others.
Elements = Annotated[list[str], Field(min_length=1), AfterValidator(_symbols)]
