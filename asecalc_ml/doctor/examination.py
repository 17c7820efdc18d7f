"""All checks in order, quick ones first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from asecalc_ml.contracts import located
from asecalc_ml.doctor import compiled_step, folders, machine, models, requirements, third_party
from asecalc_ml.doctor.finding import Checks, Finding
from asecalc_ml.errors import AsecalcError


def examine(
    environment: Mapping[str, str], model: str = compiled_step.MODEL, device: str = "cpu"
) -> Iterator[Finding]:
    """Examine this installation and this machine.

    Findings are yielded as they come. The checks before those of devices import no torch.

    Parameters
    ----------
    environment : mapping
        Variables as the user has set them, before a command sets its own.
    model : str
        A registered model of energies, with which a step is computed.
    device : str
        Where the step is computed.
    """
    findings: list[Finding] = []

    def step() -> Iterator[Finding]:
        may_compile = not any(found.topic == "compiler" and found.outcome == "failed" for found in findings)
        return compiled_step.check_step(model, device, may_compile)

    checks: list[tuple[str, Checks]] = [
        ("packages", requirements.check_versions),
        ("extras", requirements.check_extras),
        ("plugins", third_party.check_plugins),
        ("threads", lambda: machine.check_threads(environment)),
        ("settings", lambda: machine.check_allocator(environment)),
        ("compiler", machine.check_compiler),
        ("caches", folders.check_caches),
        ("models", models.check_shipped),
        ("models", models.check_registry),
        ("devices", machine.check_devices),
        (compiled_step.TOPIC, step),
    ]
    for topic, check in checks:
        for finding in _guarded(topic, check):
            findings.append(finding)
            yield finding


def _guarded(topic: str, check: Checks) -> Iterator[Finding]:
    """Yield the findings of a group of checks; one that breaks is a finding, and the next goes on."""
    try:
        yield from check()
    except AsecalcError as error:
        yield Finding(topic, topic, "failed", error.problem.rstrip(";: "), error.remedy or "")
    except Exception as error:  # a broken library may raise anything
        remedy = "mend what failed above first; otherwise reinstall the package that is named"
        yield Finding(topic, topic, "failed", f"the check ended with {located(error)}", remedy)
