"""What a run rests on: calculator, versions, sources and machine, and the files that keep it."""

from __future__ import annotations

import contextlib
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asecalc_ml.calculators.factory import describe_calculator, modules_named, modules_of, versions_of
from asecalc_ml.calculators.protocol import model_cards, offered
from asecalc_ml.config.options import dump_yaml
from asecalc_ml.local_modules import folders_of
from asecalc_ml.runs import CARD, MEMBER_CARDS, PROTOCOL, PROVENANCE, START, now
from asecalc_ml.sources import sources_of_modules, sources_of_plugins
from asecalc_ml.versions import installed_versions

if TYPE_CHECKING:
    from ase import Atoms

    from asecalc_ml.md_protocols.engine.checkpoint import State
    from asecalc_ml.md_protocols.options import ProtocolOptions
    from asecalc_ml.runs import RunWriter


def write_beginning(options: ProtocolOptions, state: State, writer: RunWriter) -> None:
    """Everything that a resumed run needs; protocol.yaml comes last and says that all is there."""
    atoms = state.atoms
    writer.declare(options.plan().files or ())
    writer.write_structure(START, atoms)
    cards = [card.model_dump(mode="json") for card in model_cards(atoms.calc)]
    if offered(atoms.calc).members:
        writer.write_json(MEMBER_CARDS, {"cards": cards})
    elif cards:
        writer.write_json(CARD, cards[0])
    writer.write_json(PROVENANCE, provenance(options, atoms))
    writer.write(PROTOCOL, dump_yaml(options), sync=True)


def provenance(options: ProtocolOptions, atoms: Atoms) -> dict[str, Any]:
    """What a run rests on."""
    return {
        "protocol": options.protocol,
        "started": now(),
        "finished": None,
        "formula": atoms.get_chemical_formula(),
        "calculator": describe(atoms.calc),
        "versions": versions(options, atoms.calc),
        "module_folders": folders_of([*modules_of(atoms.calc), *_named(options)]),
        "machine": machine(),
        "constraints": [type(constraint).__name__ for constraint in atoms.constraints],
        "seed": options.seed,
        "threads": options.threads,
        "frame_interval_fs": options.frame_interval_fs,
        "options": options.model_dump(mode="json"),
        **options.plan().statement,
    }


def describe(calculator: Any) -> dict[str, Any]:
    """The calculator's description; its versions are among those of the run."""
    description = describe_calculator(calculator)
    del description["versions"]
    return description


def versions(options: ProtocolOptions, calculator: Any) -> dict[str, str]:
    """Versions and sources that can change a run.

    Versions are those of the calculator, numpy and, where it is loaded, torch. Sources are those of other
    parties' code behind calculator, protocol and analyses, see :mod:`asecalc_ml.sources`.
    """
    packages = ["numpy", *(["torch"] if "torch" in sys.modules else [])]
    analyses = options.default_analyses if options.analyses is None else options.analyses
    protocols = (options.protocol, *options.further_protocols)
    chosen = [*(("protocols", name) for name in protocols), *(("analyses", name) for name in analyses)]
    return {
        "python": platform.python_version(),
        **installed_versions(packages),
        **versions_of(calculator),
        **sources_of_plugins(chosen),
        **sources_of_modules(_named(options)),
    }


def _named(options: ProtocolOptions) -> list[str]:
    """Modules in the names of all calculators of a run."""
    names = ("calculator", "more_calculators", "reference")
    return modules_named([getattr(options, name, None) for name in names])


def machine() -> dict[str, str]:
    """The platform and the name of its processor."""
    return {"platform": platform.platform(), "cpu": _cpu()}


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
