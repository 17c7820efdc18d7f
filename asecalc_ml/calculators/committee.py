"""Several registered models as one calculator: their mean, and how far they disagree."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, register_calculator_class

from asecalc_ml.calculators.batches.members import JointMembers
from asecalc_ml.calculators.composite import PROPERTIES, Composite, Results
from asecalc_ml.calculators.factory import calculator_spec, make_calculator
from asecalc_ml.calculators.protocol import Spec, offered
from asecalc_ml.config.suggestions import nearest_name
from asecalc_ml.errors import ConfigError, ModelError
from asecalc_ml.store.card import ModelCard
from asecalc_ml.targets.target import STD
from asecalc_ml.targets.zeros import check_zeros

if TYPE_CHECKING:
    from asecalc_ml.model.pair_forces import PairForces

#: Properties whose standard deviations are left out.
WITHOUT_STD = ("free_energy",)

#: Standard deviations divide by the number of members less one, so that their squares are unbiased.
DDOF = 1


class Committee(Composite):
    r"""Mean energy, forces and stress of several models, and standard deviations over them.

    With M members, for every energy, force component and stress component y

    .. math:: \bar y = \frac{1}{M} \sum_m y_m, \quad
              \sigma^2 = \frac{1}{M - 1} \sum_m (y_m - \bar y)^2

    (F. Musil, M. J. Willatt, M. A. Langovoy, M. Ceriotti, J. Chem. Theory Comput. 15, 906 (2019)), and
    for every atom

    .. math:: \varepsilon_i = \sqrt{\sigma^2_{F_{ix}} + \sigma^2_{F_{iy}} + \sigma^2_{F_{iz}}},

    the model deviation of DP-GEN (Y. Zhang et al., Comput. Phys. Commun. 253, 107206 (2020)), which
    divides by M: multiply by :math:`\sqrt{(M - 1) / M}` to compare with its thresholds.

    ======================================= ==============================================================
    in ``results``                          what
    ======================================= ==============================================================
    energy, energies, forces, stress        means
    energy_std, forces_std, stress_std, ... standard deviations, shaped as what they belong to
    forces_deviation                        ε, shape (n_atoms,), eV/Å
    ======================================= ==============================================================

    Parameters
    ----------
    members : sequence of str, mapping or calculator
        Registered models, as :func:`asecalc_ml.calculators.factory.make_calculator` takes them.
    **parameters
        Of :class:`~asecalc_ml.calculators.ml_calculator.MLCalculator`, for every member.

    Attributes
    ----------
    members : tuple of calculators
    elements, charges, spins : list
        What all members take.
    model_hash : str
        SHA-256 over the members' hashes.

    Raises
    ------
    ConfigError
        If there are fewer than two members, or one comes twice.
    ModelError
        If a member is unknown or no model, or if members do not belong together: trained at different
        levels of theory, on values with different zeros, or with no element, charge or spin in common.

    Notes
    -----
    Energies of models whose card says ``energies_degenerate`` compare only within the composition that
    they were trained on; for other structures ``energy_std`` and ``energies_std`` are left out, while
    forces and stress, and what is said about them, hold.
    """

    name = "asecalc-ml-committee"

    def __init__(self, members: Sequence[Any] = (), **parameters: Any):
        if not members and (misspelled := nearest_name("members", parameters)):
            remedy = "did you mean 'members'?"
            raise ConfigError(f"a committee has no {misspelled!r};", name=misspelled, remedy=remedy)
        if isinstance(members, str) or not isinstance(members, Sequence) or len(members) < 2:
            raise ConfigError(
                f"members of a committee is {members!r}" if members else "a committee has no members",
                name="members",
                value=members,
                remedy="name at least two registered models, as in {committee: {members: [first, second]}}",
            )
        super().__init__([make_calculator(member, **parameters) for member in members])
        _check_models(self.members)
        self.implemented_properties += [
            name + STD for name in self.implemented_properties if name not in WITHOUT_STD
        ]
        self._joint = JointMembers.of(self.members)
        self._comparable: dict[bytes, bool] = {}  # whether energies compare, by the atomic numbers
        self.elements = _in_common(self.members, "elements")
        self.charges = _in_common(self.members, "charges")
        self.spins = _in_common(self.members, "spins")

    @property
    def members(self) -> tuple[BaseCalculator, ...]:
        return self.parts

    @cached_property
    def model_hash(self) -> str:
        hashes = "\n".join(member.model_hash for member in self.members)
        return hashlib.sha256(hashes.encode()).hexdigest()

    def results_of_parts(self, properties: Sequence[str]) -> list[Results]:
        """Results of each member; those of one architecture come from one graph where it is compiled."""
        if self._joint is not None and self._joint.compute(self.atoms):
            results = [member.results for member in self.members]
            asked = self._asked_of(self.members[0], properties)
            if all(name in of_member for of_member in results for name in asked):
                return results
        return super().results_of_parts(properties)

    def _asked_of(self, part: BaseCalculator, properties: Iterable[str]) -> list[str]:
        """Values whose spread is the standard deviation; the members' own uncertainties are not asked for."""
        return [name.removesuffix(STD) for name in properties]

    def combine(self, results: Sequence[Results], atoms: Atoms) -> Results:
        offered_by_all = dict.fromkeys((*PROPERTIES, *self.implemented_properties))
        names = [
            name
            for name in offered_by_all
            if not name.endswith(STD) and all(name in of_member for of_member in results)
        ]
        combined: Results = {}
        # mean and standard deviation over the members, y and σ of the class
        for name in names:
            values = np.array([of_member[name] for of_member in results])
            mean = values.mean(axis=0)
            # NumPy's own standard deviation takes several times as long for so few values
            variance = ((values - mean) ** 2).sum(axis=0) / (len(results) - DDOF)
            combined[name], combined[name + STD] = _plain(mean), _plain(np.sqrt(variance))
        # ε_i, the norm of an atom's σ of the force
        if "forces_std" in combined:
            combined["forces_deviation"] = np.linalg.norm(combined["forces_std"], axis=1)
        # energies without a common zero have a mean, and no deviation
        without_meaning = [name + STD for name in WITHOUT_STD]
        if not self._energies_compare(atoms):
            without_meaning += ["energy_std", "energies_std"]
        return {name: value for name, value in combined.items() if name not in without_meaning}

    def combine_of_many(self, results: Sequence[Results], atoms: Atoms) -> Results:
        """Results of one of many structures: those of :meth:`combine`, and ``members``, each member's own."""
        return {**self.combine(results, atoms), "members": list(results)}

    def expect(self, atoms: Atoms, n_calls: int) -> None:
        super().expect(atoms, n_calls)
        if self._joint is not None:
            self._joint.expect(atoms, n_calls)

    def checkpoint_state(self) -> dict:
        joint = {} if self._joint is None else {"joint": self._joint.state()}
        return {**super().checkpoint_state(), **joint}

    def restore_state(self, state: dict) -> None:
        super().restore_state(state)
        if self._joint is not None:
            self._joint.restore(state.get("joint"))

    def get_hessian(self, atoms: Atoms) -> np.ndarray:
        """Second derivatives of the mean energy, shape (3 n_atoms, 3 n_atoms), eV/Å²."""
        return np.mean(self.hessians(atoms), axis=0)

    def pair_forces(self, atoms: Atoms) -> PairForces:
        """Mean forces between pairs of atoms; a pair beyond the cutoff of a member counts as zero there.

        Raises
        ------
        PropertyNotImplementedError
            If a term of a member's card has none, as D3.
        """
        from asecalc_ml.model.pair_forces import summed

        total = summed(self.pair_forces_of_parts(atoms))
        n_members = len(self.members)
        return replace(total, gradients=total.gradients / n_members, forces=total.forces / n_members)

    def spec(self) -> Spec:
        """What :func:`asecalc_ml.calculators.factory.make_calculator` makes the same calculator from."""
        return {"committee": self.todict()}

    def todict(self, skip_default: bool = True) -> dict:
        return {"members": [calculator_spec(member) for member in self.members]}

    def __reduce__(self) -> tuple:
        return type(self), (self.members,)

    def _energies_compare(self, atoms: Atoms) -> bool:
        """Return True if each member's energy has a meaning for this composition."""
        numbers = atoms.numbers.tobytes()
        if numbers not in self._comparable:
            known = [member.card.knows_energies_of(atoms.numbers) for member in self.members]
            self._comparable[numbers] = all(known)
        return self._comparable[numbers]


def _plain(value: np.ndarray | np.float64) -> np.ndarray | float:
    return float(value) if np.ndim(value) == 0 else value


def _check_models(members: Sequence[BaseCalculator]) -> None:
    for member in members:
        if offered(member).card is None:
            name = type(member).__name__
            raise ModelError(
                f"{name} is no registered model, and a committee is made of these",
                name=name,
                remedy="name models of `asecalc-ml models list`",
            )
    _check_different(members)
    _check_same_quantities(members)
    _check_comparable(members)
    names = [quantity.name for quantity in members[0].card.quantities]
    check_zeros({repr(member.card.name): member.card.zeros for member in members}, names)


def _check_different(members: Sequence[BaseCalculator]) -> None:
    hashes = [member.model_hash for member in members]
    for member in members:
        if hashes.count(member.model_hash) > 1:
            raise ConfigError(
                f"model {member.card.name!r} is in the committee twice, and would make it look more certain "
                "than it is",
                name=member.card.name,
                remedy="name each model once",
            )


def _check_same_quantities(members: Sequence[BaseCalculator]) -> None:
    predicted = [[str(quantity) for quantity in member.card.quantities] for member in members]
    if any(quantities != predicted[0] for quantities in predicted):
        named = zip(members, predicted, strict=True)
        listed = "; ".join(f"{member.card.name}: {', '.join(names)}" for member, names in named)
        raise ModelError(
            f"the members of the committee predict different quantities ({listed})",
            value=predicted,
            remedy="take models of the same quantities",
        )


def _check_comparable(members: Sequence[BaseCalculator]) -> None:
    levels = [_level(member.card) for member in members]
    if len(set(levels)) > 1:
        named = zip(members, levels, strict=True)
        listed = ", ".join(f"{member.card.name} on {level or 'an unknown level'}" for member, level in named)
        raise ModelError(
            "energies of these models do not compare, since they were trained at different levels of theory "
            f"({listed})",
            value=levels,
            remedy="take members trained at one level",
        )


def _level(card: ModelCard) -> str | None:
    return card.dataset.level_of_theory if card.dataset else None


def _in_common(members: Sequence[BaseCalculator], key: str) -> list:
    """What every member's card lists under elements, charges or spins."""
    by_member = [getattr(member.card, key) for member in members]
    common = sorted(set.intersection(*map(set, by_member)))
    if not common:
        named = zip(members, by_member, strict=True)
        listed = "; ".join(f"{member.card.name}: {', '.join(map(str, values))}" for member, values in named)
        problem = f"the members of the committee have no {key} in common ({listed})"
        raise ModelError(problem, name=key, value=by_member, remedy="take others")
    return common


register_calculator_class(Committee.name, Committee)
