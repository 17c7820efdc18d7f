"""Stages, of which a protocol is made: relaxation, equilibration, production, Hessian."""

from typing import TYPE_CHECKING

from asecalc_ml._lazy import lazily

if TYPE_CHECKING:
    from asecalc_ml.md_protocols.stages.equilibrate import Equilibrate
    from asecalc_ml.md_protocols.stages.hessian import Hessian
    from asecalc_ml.md_protocols.stages.produce import Produce, ProduceAtConstantEnergy
    from asecalc_ml.md_protocols.stages.relax import RelaxStage
    from asecalc_ml.md_protocols.stages.relax_on_record import RelaxOnRecord
    from asecalc_ml.md_protocols.stages.stage import Stage
    from asecalc_ml.md_protocols.stages.time_steps import MakeIntegrator, TimeSteps

__all__ = [
    "Equilibrate",
    "Hessian",
    "MakeIntegrator",
    "Produce",
    "ProduceAtConstantEnergy",
    "RelaxOnRecord",
    "RelaxStage",
    "Stage",
    "TimeSteps",
]

__getattr__ = lazily(
    __name__,
    {
        "Equilibrate": f"{__name__}.equilibrate",
        "Hessian": f"{__name__}.hessian",
        "MakeIntegrator": f"{__name__}.time_steps",
        "Produce": f"{__name__}.produce",
        "ProduceAtConstantEnergy": f"{__name__}.produce",
        "RelaxOnRecord": f"{__name__}.relax_on_record",
        "RelaxStage": f"{__name__}.relax",
        "Stage": f"{__name__}.stage",
        "TimeSteps": f"{__name__}.time_steps",
    },
)
