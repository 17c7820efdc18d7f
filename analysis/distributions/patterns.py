"""Option types for patterns of bonds, angles and dihedrals, checked when options are read."""

from typing import Annotated

from pydantic import AfterValidator


def _with_atoms(n_atoms: int):
    def check(pattern: str) -> str:
        from asecalc_ml.errors import ConfigError
        from asecalc_ml.structure.topology.patterns import EXAMPLES, KINDS, parse_selection

        try:
            selection = parse_selection(pattern)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if len(selection.terms) != n_atoms:
            raise ValueError(
                f"pattern {pattern!r}: expected {n_atoms} atoms for {_article(KINDS[n_atoms])}, such as "
                f"{EXAMPLES[n_atoms]!r}"
            )
        return str(selection)

    return AfterValidator(check)


def _article(kind: str) -> str:
    return f"an {kind}" if kind == "angle" else f"a {kind}"


BondPattern = Annotated[str, _with_atoms(2)]
AnglePattern = Annotated[str, _with_atoms(3)]
DihedralPattern = Annotated[str, _with_atoms(4)]
