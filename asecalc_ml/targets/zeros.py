"""What values are relative to: total energies and energies of atomisation are one quantity with two zeros."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from asecalc_ml.errors import AsecalcError, ModelError
from asecalc_ml.plugins import get
from asecalc_ml.plugins import names as plugin_names

#: Zeros by the names that data and cards have for them.
TOTAL, ATOMISATION = "separated nuclei and electrons", "free atoms"


def check_zeros(
    stated: Mapping[str, Mapping[str, str]], names: Sequence[str], error: type[AsecalcError] = ModelError
) -> None:
    """Refuse to mix values with different zeros, and warn where a zero is not known.

    Parameters
    ----------
    stated : mapping
        Models and data sets as messages name them, each with the zeros that it states by quantity.
    names : sequence of str
        Quantities that are compared or averaged.
    error : type
        Of what is raised.

    Raises
    ------
    AsecalcError
        If two of them have different zeros.

    Warns
    -----
    UserWarning
        If one states the zero of a quantity and another does not, or none does although values have one.
    """
    for name in names:
        zeros = {owner: of_owner[name] for owner, of_owner in stated.items() if name in of_owner}
        listed = "; ".join(f"{owner}: {zero}" for owner, zero in zeros.items())
        if len(set(zeros.values())) > 1:
            raise error(
                f"values of {name} have different zeros ({listed}), which differ by energies of the atoms",
                name=name,
                value=zeros,
                remedy="take models and data with one zero, such as those of one option `energies` of qm9",
            )
        unknown = [owner for owner in stated if owner not in zeros]
        if unknown and (zeros or _is_relative(name)):
            warnings.warn(
                f"the zero of {name} is not known of {', '.join(unknown)}"
                + (f" ({listed})" if listed else "")
                + ": total energies and energies of atomisation would be mixed. Check that the zeros are the "
                "same; data state theirs with `energies` of qm9, or `properties: {NAME: {zero: ...}}` of ase",
                stacklevel=3,
            )


def _is_relative(name: str) -> bool:
    """Return True for a registered target whose values depend on the choice of a zero."""
    return name in plugin_names("targets") and get("targets", name).relative
