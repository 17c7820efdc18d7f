"""Several ensembles one after the other, in one trajectory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from asecalc_ml import plugins
from asecalc_ml.config.options import parse_options
from asecalc_ml.config.quantities import Timestep_fs
from asecalc_ml.md_protocols.dynamics import DynamicsOptions, EnsembleOptions, columns_of

if TYPE_CHECKING:
    from typing import Self

    from ase import Atoms

    from asecalc_ml.md_protocols.stages import Produce


class Sequence(DynamicsOptions):
    """Relax, equilibrate with Langevin dynamics, then one ensemble after the other: heat, hold, cool.

    Each goes on from where the one before ended, and all frames lie in one trajectory.
    """

    protocol: Literal["sequence"] = Field("sequence", description="several ensembles, one after the other")
    timestep_fs: Timestep_fs = Field(0.5, description="time step of all productions")
    sequence: list[dict[str, Any]] = Field(
        min_length=1,
        description="productions: `ensemble: nve, nvt, npt` or another protocol of one ensemble, and that "
        "protocol's own options: steps, temperature_K, temperature_end_K, thermostat, pressure_GPa, ...",
        examples=[[{"ensemble": "nvt", "steps": 20000, "temperature_end_K": 500}]],
    )

    @field_validator("sequence")
    @classmethod
    def _known_options(cls, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for number, part in enumerate(given, start=1):
            _parse(part, number, timestep_fs=1.0)
        return given

    @model_validator(mode="after")
    def _written_at_the_joints(self) -> Sequence:
        for part in self.parts[:-1]:
            for every in (self.write_every, self.thermo_every):
                if part.steps % every:
                    raise ValueError(
                        f"{part.steps} steps of one part are no multiple of write_every ({self.write_every}) "
                        f"and thermo_every ({self.thermo_every}), so that frames would not be evenly spaced"
                    )
        return self

    @property
    def further_protocols(self) -> tuple[str, ...]:
        """The ensembles."""
        return tuple(dict.fromkeys(part["ensemble"] for part in self.sequence))

    @property
    def parts(self) -> list[EnsembleOptions]:
        """Options of each production; one without a temperature has that at which the one before ends."""
        parts, temperature_K = [], self.temperature_K
        for number, given in enumerate(self.sequence, start=1):
            part = _parse({"temperature_K": temperature_K} | given, number, self.timestep_fs)
            end_K = getattr(part, "temperature_end_K", None)
            temperature_K = part.temperature_K if end_K is None else end_K
            parts.append(part)
        return parts

    def with_thermostat(self, name: str) -> Self:
        """Return these options with the named thermostat in every part that has ``auto`` or names none."""
        chosen = [
            given | {"thermostat": part.with_thermostat(name).thermostat}
            if hasattr(part, "thermostat")
            else given
            for given, part in zip(self.sequence, self.parts, strict=True)
        ]
        return self.model_copy(update={"sequence": chosen})

    def doubts(self) -> list[str]:
        """Those of each part, too, with its number."""
        of_parts = [
            f"part {number} of the sequence: {doubt}"
            for number, part in enumerate(self.parts, start=1)
            for doubt in part.doubts()
        ]
        return [*super().doubts(), *of_parts]

    def check_start(self, atoms: Atoms) -> None:
        """What every ensemble asks of the structure."""
        super().check_start(atoms)
        first, *others = self.parts
        own = {"velocities": self.velocities, "equilibration_ps": self.equilibration_ps}
        for part in (first.model_copy(update=own), *others):
            part.check_start(atoms)

    @property
    def why_not_longer(self) -> str:
        """Parts follow one another, and only the last one could be longer."""
        return "the parts of a sequence keep their lengths"

    def productions(self, is_equilibrated: bool) -> list[Produce]:
        """One of each part; the first draws velocities where nothing before has."""
        stages = [part.production(is_equilibrated=False) for part in self.parts]
        columns = columns_of(stages)
        return [
            replace(
                stage,
                draws_velocities=number == 0 and self.draws_velocities and not is_equilibrated,
                columns=columns,
                is_last=number == len(stages) - 1,
            )
            for number, stage in enumerate(stages)
        ]


def _parse(part: dict[str, Any], number: int, timestep_fs: float) -> EnsembleOptions:
    """Options of a part, among which those of the whole sequence are refused."""
    source = f"part {number} of the sequence"
    ensemble = _ensemble(part.get("ensemble"), source)
    common = sorted(set(part) & (set(DynamicsOptions.model_fields) - {"temperature_K"}))
    if common:
        raise ValueError(f"{source}: {', '.join(common)} belongs to the whole: move it out of the part")
    own = {name: value for name, value in part.items() if name != "ensemble"}
    return parse_options(own | {"timestep_fs": timestep_fs}, ensemble, source)


def _ensemble(name: Any, source: str) -> type[EnsembleOptions]:
    """The protocol of one ensemble that is registered under a name, by this or another package."""
    if name in plugins.names("protocols"):
        protocol = plugins.get("protocols", name)
        if issubclass(protocol, EnsembleOptions):
            return protocol
    protocols = plugins.loaded("protocols")
    known = [protocol for protocol, model in protocols.items() if issubclass(model, EnsembleOptions)]
    raise ValueError(f"{source}: `ensemble` is one of {', '.join(known)}")
