"""Harmonic vibrations about a minimum."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asecalc_ml.config.quantities import Fmax_eV_A
from asecalc_ml.errors import ConfigError, StructureError
from asecalc_ml.md_protocols import stages
from asecalc_ml.md_protocols.relax import RelaxOptions

if TYPE_CHECKING:
    from ase import Atoms


class Vibrations(RelaxOptions):
    """Relax, then compute the second derivatives of the energy that normal modes follow from."""

    protocol: Literal["vibrations"] = Field("vibrations", description="harmonic vibrations")
    default_analyses: ClassVar[tuple[str, ...]] = ("normal-modes", "relaxation")

    relax: bool = Field(True, description="relax the structure first")
    relax_fmax_eV_A: Fmax_eV_A = Field(
        0.001, description="largest force on any atom of a relaxed structure; a warning beyond it"
    )
    hessian: Literal["auto", "autograd", "finite-differences"] = Field(
        "auto",
        description="second derivatives: by autograd where the model offers it, or differences of forces",
    )
    displacement_A: float = Field(
        0.005, ge=1e-4, le=0.1, description="displacement of an atom for central finite differences, Å"
    )

    def unused(self) -> dict[str, str]:
        """Options of a relaxation that is left out, and of differences of forces that are not computed."""
        names = {} if self.relax else {"relax_steps": "relax: true"}
        names |= {"displacement_A": "hessian: finite-differences"} if self.hessian == "autograd" else {}
        return super().unused() | names

    def check_start(self, atoms: Atoms) -> None:
        """Refuse constraints other than FixAtoms, and a method that the calculator does not offer."""
        from asecalc_ml.calculators.protocol import offers

        super().check_start(atoms)
        others = sorted({type(constraint).__name__ for constraint in atoms.constraints} - {"FixAtoms"})
        if others:
            raise StructureError(
                f"vibrations know atoms that FixAtoms holds, and the structure has {', '.join(others)}",
                name=", ".join(others),
                value=others,
                allowed=["FixAtoms"],
                remedy="remove them, or hold whole atoms",
            )
        if self.hessian == "autograd" and not offers(atoms.calc, "get_hessian"):
            raise ConfigError(
                f"{type(atoms.calc).__name__} offers no second derivatives by autograd",
                name="hessian",
                value=self.hessian,
                allowed=["finite-differences"],
                remedy="use hessian: finite-differences",
            )

    def stages(self) -> list:
        """Relax, if wanted, and Hessian."""
        relaxation = self.relaxation() if self.relax else []
        return [*relaxation, stages.Hessian(self.hessian, self.displacement_A, self.relax_fmax_eV_A)]
