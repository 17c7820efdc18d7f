"""Analytic terms on top of a model: a repulsive core and dispersion, named by a card or by YAML."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, register_calculator_class
from pydantic import Field

from asecalc_ml.calculators.composite import Composite
from asecalc_ml.calculators.factory import calculator_spec, make_calculator, named_spec, split_spec
from asecalc_ml.calculators.protocol import Spec, model_cards, need_energies, offered, results_of_part
from asecalc_ml.calculators.results import Results, add_results
from asecalc_ml.config.options import Options, parse_options
from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import ConfigError
from asecalc_ml.model.pair_potentials import ZBL
from asecalc_ml.store.card import ModelCard
from asecalc_ml.targets.target import STD

if TYPE_CHECKING:
    from asecalc_ml.model.pair_forces import PairForces

#: "zbl", or {"d3": {"functional": "PBE"}}.
CorrectionSpec = str | Mapping[str, Mapping[str, Any] | None]

#: In the name of a level of theory that holds dispersion: PBE-D3(BJ), GFN2-xTB, ωB97X-D, B97M-V, PBE-TS.
WITH_DISPERSION = re.compile(r"(?<![a-z0-9])(d[234]|mbd|vv10|xdm|xtb)|-(d|v|ts)\b", re.IGNORECASE)


class Repulsion(ZBL):
    """The ZBL core as a correction."""

    def calculator(self) -> Calculator:
        """An ASE calculator of this term alone."""
        from asecalc_ml.calculators.correction_terms import RepulsionCalculator

        return RepulsionCalculator(self)


class Dispersion(Options):
    """Grimme's D3, by simple-dftd3."""

    citation: ClassVar[str] = (
        "S. Grimme, J. Antony, S. Ehrlich, H. Krieg, J. Chem. Phys. 132, 154104 (2010); S. Grimme, "
        "S. Ehrlich, L. Goerigk, J. Comput. Chem. 32, 1456 (2011); simple-dftd3, https://github.com/dftd3/simple-dftd3"
    )

    functional: str = Field(description="density functional of the labels, such as PBE", examples=["PBE"])
    damping: Literal["bj", "zero"] = Field("bj", description="Becke and Johnson's rational damping, or zero")
    three_body: bool = Field(False, description="whether Axilrod-Teller-Muto terms are included")

    def calculator(self) -> Calculator:
        """An ASE calculator of this term alone."""
        from asecalc_ml.calculators.correction_terms import DispersionCalculator

        return DispersionCalculator(self)


CORRECTIONS: dict[str, type[Repulsion | Dispersion]] = {"zbl": Repulsion, "d3": Dispersion}


class Corrected(Composite):
    """A calculator and analytic terms: energies, forces and stress are sums.

    Parameters
    ----------
    calculator : str, mapping or calculator
        As :func:`asecalc_ml.calculators.factory.make_calculator` takes it.
    corrections : sequence
        "zbl" or "d3", or a mapping of one of these to its options: ``{"d3": {"functional": "PBE"}}``.

    Attributes
    ----------
    corrections : list of dict
        Each term with all its options.
    card : ModelCard or None
        The model's, with the corrections in it.

    Raises
    ------
    ConfigError
        If a correction or an option of it does not exist, or the model has the correction already.
    ModelError
        If its library is not installed.

    Warns
    -----
    UserWarning
        If dispersion is added to a model whose level of theory seems to include it.
    """

    name = "asecalc-ml-corrected"

    def __init__(self, calculator: Any, corrections: Sequence[CorrectionSpec]):
        base = make_calculator(calculator)
        need_energies(base, "A correction")
        self._given = None if base is calculator else calculator
        self.corrections = explicit(corrections)
        _check_new(base, self.corrections)
        super().__init__([base, *correction_calculators(self.corrections)])
        of_base = offered(base).implemented_properties
        self.implemented_properties += [name for name in of_base if name.endswith(STD)]
        self.parameters = offered(base).parameters

    @property
    def base(self) -> BaseCalculator:
        """The calculator that is corrected."""
        return self.parts[0]

    @property
    def of_the_structure(self) -> Collection[str]:
        """Parameters of the calculator that are those of the structure computed last."""
        return offered(self.base).of_the_structure

    @property
    def members(self) -> Sequence[BaseCalculator]:
        """Members of a committee; none for a model alone."""
        return offered(self.base).members

    @property
    def card(self) -> ModelCard | None:
        card = offered(self.base).card
        return card and card.model_copy(update={"corrections": [*card.corrections, *self.corrections]})

    @property
    def model_hash(self) -> str | None:
        """That of the model; the corrections are no part of it."""
        return offered(self.base).model_hash

    def combine(self, results: Sequence[Results], atoms: Atoms) -> Results:
        return add_results(results)

    def get_hessian(self, atoms: Atoms) -> np.ndarray:
        """Second derivatives of the energy, shape (3 n_atoms, 3 n_atoms), eV/Å²."""
        return np.sum(self.hessians(atoms), axis=0)

    def pair_forces(self, atoms: Atoms) -> PairForces:
        """Forces between pairs of atoms, of the calculator and the terms together.

        Raises
        ------
        PropertyNotImplementedError
            If the calculator or a term has none, as D3.
        """
        from asecalc_ml.model.pair_forces import summed

        return summed(self.pair_forces_of_parts(atoms))

    def spec(self) -> Spec | None:
        """Name and arguments that make the same calculator; None where those of the base are not known.

        They are known of a calculator that offers ``spec()``, as all of this package do, and of one that was
        given by its name.
        """
        of_base = calculator_spec(self.base, self._given)
        if of_base is None:
            return None
        name, arguments = split_spec(of_base)
        corrections = [*arguments.pop("corrections", []), *self.corrections]
        return named_spec(name, {**arguments, "corrections": corrections})

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Arguments that make the same calculator; ``calculator`` is left out where it is not known."""
        of_base = calculator_spec(self.base, self._given)
        known = {} if of_base is None else {"calculator": of_base}
        return {**known, "corrections": self.corrections}

    def __reduce__(self) -> tuple:
        return type(self), (self.base, self.corrections), {"_given": self._given}


def with_terms(results: Results, terms: Sequence[Calculator], atoms: Atoms) -> Results:
    """Results of a model with those of the terms that its card names.

    Parameters
    ----------
    results : dict
        Of the model alone.
    terms : sequence of calculators
        From :func:`correction_calculators`.
    """
    if not terms:
        return results
    wanted = ("energies", "forces", "energy")
    return add_results([results, *(results_of_part(term, atoms, wanted) for term in terms)])


def correction_calculators(corrections: Sequence[CorrectionSpec]) -> list[Calculator]:
    """One ASE calculator for each term of a card or of YAML."""
    named = (next(iter(term.items())) for term in explicit(corrections))
    return [CORRECTIONS[name](**options).calculator() for name, options in named]


def explicit(corrections: Sequence[CorrectionSpec]) -> list[dict[str, dict]]:
    """Corrections as a card holds them: each a mapping of its name to all its options.

    Raises
    ------
    ConfigError
        If a correction or an option of it does not exist, or if one comes twice.
    """
    if isinstance(corrections, str | Mapping) or not isinstance(corrections, Sequence):
        raise ConfigError(
            f"corrections is {corrections!r}",
            name="corrections",
            value=corrections,
            remedy="give a list, such as [zbl, {d3: {functional: PBE}}]",
        )
    terms = [_explicit(spec) for spec in corrections]
    names = [name for term in terms for name in term]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"correction {name!r} comes twice", name=name, remedy="leave one out")
    return terms


def _explicit(spec: CorrectionSpec) -> dict[str, dict]:
    items = {spec: None} if isinstance(spec, str) else spec
    if not isinstance(items, Mapping) or len(items) != 1:
        raise ConfigError(
            f"correction {spec!r}",
            name="correction",
            value=spec,
            remedy="give a name, or a name with its options as in {d3: {functional: PBE}}",
        )
    name, options = next(iter(items.items()))
    if name not in CORRECTIONS:
        remedy = f"There are {', '.join(CORRECTIONS)}"
        raise unknown_name_error(ConfigError, f"no correction {name!r}", name, CORRECTIONS, remedy)
    return {
        name: parse_options(options or {}, CORRECTIONS[name], f"correction {name}").model_dump(mode="json")
    }


def _check_new(base: BaseCalculator, corrections: list[dict[str, dict]]) -> None:
    """A term counts once, and dispersion is not added to what has it."""
    names = {name for term in corrections for name in term}
    for card in model_cards(base):
        twice = names & {name for term in card.corrections for name in term}
        if twice:
            raise ConfigError(
                f"model {card.name!r} has {', '.join(sorted(twice))} by its card already, and twice would be "
                "wrong",
                name=card.name,
                value=sorted(twice),
                remedy="leave it out",
            )
    if "d3" in names:
        _warn_of_dispersion(base)


def _warn_of_dispersion(base: BaseCalculator) -> None:
    levels = [card.dataset.level_of_theory or "" for card in model_cards(base) if card.dataset]
    for level in dict.fromkeys([*levels, offered(base).name]):
        if WITH_DISPERSION.search(level):
            warnings.warn(
                f"{level} seems to include dispersion, which counts twice with d3: look it up", stacklevel=5
            )


register_calculator_class(Corrected.name, Corrected)
