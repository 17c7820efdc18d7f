"""Required packages, and the packages of extras, as this version of asecalc-ml declares them."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from asecalc_ml import __version__
from asecalc_ml._checkout import PACKAGE, ROOT, is_checkout
from asecalc_ml.doctor.finding import Finding
from asecalc_ml.outcome import Outcome

NAME = "asecalc-ml"

#: Modules of packages whose names differ by more than a hyphen.
MODULES = {
    "core-mof": "CoRE_MOF",
    "pytest-xdist": "xdist",
    "scikit-learn": "sklearn",
    "torchmd-net": "torchmdnet",
    "umap-learn": "umap",
}

#: What each extra is for.
PURPOSES = {
    "dispersion": "the correction d3",
    "distributed": "campaigns and searches on several machines",
    "engines": "i-PI and OpenMM",
    "explain": "chemiscope files, SOAP fingerprints, UMAP",
    "molecules": "structures from SMILES, Morgan fingerprints",
    "optimizers": "the optimizers LAMB and Yogi",
    "properties": "QM9 and CoRE MOF as data",
    "reference": "the calculators gfn2-xtb and pyscf-dft",
    "test": "the tests",
    "tracking": "TensorBoard",
}


@dataclass(frozen=True)
class PackageState:
    """Installed version of a required package, and whether it can be used.

    Parameters
    ----------
    requirement : Requirement
    version : str or None
        None if it is not installed.
    fault : str
        What is wrong with an installed one; empty if nothing is.
    remedy : str
    """

    requirement: Requirement
    version: str | None
    fault: str = ""
    remedy: str = ""

    @property
    def is_usable(self) -> bool:
        """True if it is installed in a fitting version."""
        return self.version is not None and not self.fault

    def __str__(self) -> str:
        return f"{self.requirement.name} {self.version or 'missing'}"


def declared() -> dict[str, list[Requirement]]:
    """Requirements by extra, "" for those always needed, without asecalc-ml's own extras.

    A checkout declares them in its `setup.cfg`, since the metadata of an editable installation may be older.
    """
    if is_checkout():
        setup = _setup_cfg()
        texts = {"": setup["options"]["install_requires"], **setup["options.extras_require"]}
        return {extra: _chosen(text.strip().splitlines()) for extra, text in texts.items()}
    lines = metadata.requires(NAME) or []
    always = _chosen(lines)
    extras = metadata.metadata(NAME).get_all("Provides-Extra") or []
    return {"": always} | {
        extra: [one for one in _chosen(lines, extra) if one not in always] for extra in extras
    }


def package_state(requirement: Requirement) -> PackageState:
    """Compare the installed version with a requirement, and look for the module; nothing is imported."""
    name = requirement.name
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return PackageState(requirement, None, remedy=_pip(f"{name}{requirement.specifier}"))
    if not requirement.specifier.contains(version, prereleases=True):
        fault = f"{name} {version} is installed, and {requirement.specifier} is needed"
        return PackageState(requirement, version, fault, _pip(f"{name}{requirement.specifier}"))
    module = MODULES.get(name, name.replace("-", "_"))
    if not _is_found(module):
        fault = f"{name} {version} is installed, and its module {module} cannot be found"
        return PackageState(requirement, version, fault, f"pip install --force-reinstall --no-deps {name}")
    return PackageState(requirement, version)


def check_versions() -> Iterator[Finding]:
    """Check this package, Python and the required packages."""
    kind = "a checkout" if is_checkout() else "an installation"
    yield Finding("packages", NAME, "passed", f"{__version__}, {kind} at {PACKAGE}")
    yield _python()
    states = [package_state(requirement) for requirement in declared()[""]]
    for state in states:
        if not state.is_usable:
            text = state.fault or f"{state.requirement.name} is not installed"
            yield Finding("packages", state.requirement.name, "failed", text, state.remedy)
    usable = [str(state) for state in states if state.is_usable]
    text = f"{len(usable)} of {len(states)} are installed in fitting versions: {', '.join(usable)}"
    yield Finding("packages", "required packages", "passed" if usable else "failed", text)


def check_extras() -> Iterator[Finding]:
    """Check the packages of extras; one that is not installed is no fault."""
    for extra, requirements in declared().items():
        if extra:
            yield _of_extra(extra, [package_state(requirement) for requirement in requirements])


def _of_extra(extra: str, states: list[PackageState]) -> Finding:
    faulty = [state for state in states if state.fault]
    missing = [state for state in states if state.version is None]
    purpose = f" (for {PURPOSES[extra]})" if extra in PURPOSES else ""
    outcome: Outcome = "failed" if faulty else "not applicable" if missing else "passed"
    text = "; ".join(state.fault for state in faulty) or ", ".join(map(str, states)) + purpose
    remedy = faulty[0].remedy if faulty else _pip(f"{NAME}[{extra}]") if missing else ""
    return Finding("extras", extra, outcome, text, remedy)


def _python() -> Finding:
    needed = SpecifierSet(
        _setup_cfg()["options"]["python_requires"]
        if is_checkout()
        else metadata.metadata(NAME)["Requires-Python"]
    )
    version = platform.python_version()
    fits = needed.contains(version, prereleases=True)
    text = f"{version} on {platform.platform()}"
    remedy = "" if fits else f"use Python {needed}"
    return Finding("packages", "Python", "passed" if fits else "failed", text, remedy)


def _setup_cfg() -> ConfigParser:
    setup = ConfigParser(interpolation=None, delimiters=("=",))
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup


def _chosen(lines: Iterable[str], extra: str = "") -> list[Requirement]:
    """Requirements on other packages that hold for this Python and an extra."""
    others = (one for one in map(Requirement, lines) if one.name != NAME)
    return [one for one in others if one.marker is None or one.marker.evaluate({"extra": extra})]


def _is_found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # its parent is missing, or it was put in place by hand
        return False


def _pip(requirement: str) -> str:
    return f'pip install "{requirement}"'
