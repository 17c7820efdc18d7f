"""Any ASE calculator by name: a registered model, a committee, GFN2-xTB, DFT, or another package's class."""

import importlib
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ase.calculators.calculator import BaseCalculator

from asecalc_ml.calculators.arguments import check_arguments
from asecalc_ml.errors import AsecalcError, ConfigError, ModelError
from asecalc_ml.sources import packages_of_model, sources_of_modules, sources_of_plugins
from asecalc_ml.store.card import ModelCard
from asecalc_ml.versions import installed_versions

#: Quantum chemistry by name: where its calculator is, and the package that it needs.
REFERENCES = {
    "gfn2-xtb": ("asecalc_ml.calculators.xtb:GFN2", "tblite"),
    "pyscf-dft": ("asecalc_ml.calculators.dft:DFT", "pyscf"),
}

CalculatorSpec = str | Mapping[str, Mapping | None]


def make_calculator(spec: CalculatorSpec | BaseCalculator, **kwargs) -> BaseCalculator:
    """Build the calculator that a YAML or a command line names.

    Parameters
    ----------
    spec : str, mapping or calculator
        The name of a registered model ("torchmdnet-ethanol"), "gfn2-xtb", "pyscf-dft", or "module:Class"
        ("ase.calculators.emt:EMT"). With arguments: a mapping with one key,
        ``{"ase.calculators.lj:LennardJones": {"epsilon": 0.01}}``. Several models as one:
        ``{"committee": {"members": ["first", "second"]}}``, see
        :class:`asecalc_ml.calculators.committee.Committee`. A calculator is returned as it is.
    **kwargs
        More arguments of the calculator; they win over those of the mapping.

    Notes
    -----
    The argument ``corrections`` adds analytic terms to any of them, as in
    ``{"torchmdnet-ethanol": {"corrections": ["zbl", {"d3": {"functional": "PBE"}}]}}``; see
    :class:`asecalc_ml.calculators.corrections.Corrected`.

    Raises
    ------
    ConfigError
        If the module, the class or an argument does not exist; see
        :func:`asecalc_ml.calculators.arguments.check_arguments` for classes of other packages.
    ModelError
        If no model of that name is registered, or tblite or pyscf is not installed.
    """
    if isinstance(spec, BaseCalculator):
        return spec
    name, arguments = _split(spec)
    arguments.update(kwargs)
    corrections = arguments.pop("corrections", None)
    kind = _kind(name)
    if ":" in name:  # our own calculators check for themselves
        check_arguments(kind, name, arguments)
    calculator = _build(kind, name, arguments)
    if not corrections:
        return calculator
    from asecalc_ml.calculators.corrections import Corrected

    return Corrected(calculator, corrections)


def describe_calculator(calculator: BaseCalculator) -> dict:
    """What a provenance file keeps of a calculator, ready for JSON.

    Returns
    -------
    dict
        ``name``, ``class`` ("module:Class"), ``model_hash`` (None without a model),
        ``parameters`` and ``versions`` of the packages it rests on; ``members`` (descriptions like this one)
        of a committee, ``corrections`` with all their options, where there are any.
    """
    kind = type(calculator)
    card = getattr(calculator, "card", None)
    description = {
        "name": getattr(card, "name", None) or getattr(calculator, "name", None) or kind.__name__,
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "model_hash": getattr(calculator, "model_hash", None),
        "parameters": _parameters(calculator),
        "versions": versions_of(calculator),
    }
    parts = {
        "members": [_without_versions(member) for member in getattr(calculator, "members", ())],
        "corrections": getattr(calculator, "corrections", None) or getattr(card, "corrections", []),
    }
    return description | {key: value for key, value in parts.items() if value}


def identity(calculator: BaseCalculator) -> dict:
    """What a file of frames keeps of a model, a committee or corrections, ready for JSON: names and hashes.

    Arguments that make the same calculator; nothing for calculators of other packages, whose parameters may
    be anything.
    """
    return calculator.todict() if hasattr(calculator, "model_hash") else {}


def versions_of(calculator: BaseCalculator) -> dict[str, str]:
    """Versions of the packages that a calculator rests on, and sources of those of other parties."""
    return installed_versions(packages_of(calculator)) | sources_of(calculator)


def sources_of(calculator: BaseCalculator) -> dict[str, str]:
    """Sources of a calculator's classes, its architecture and its parts, see :mod:`asecalc_ml.sources`."""
    found = sources_of_modules(modules_of(calculator))
    if isinstance(card := getattr(calculator, "card", None), ModelCard):
        found |= sources_of_plugins([("architectures", card.architecture)])
    for part in getattr(calculator, "parts", ()):
        found |= sources_of(part)
    return found


def modules_of(calculator: BaseCalculator) -> set[str]:
    """Modules in which the classes of a calculator and of its parts are defined."""
    own = {base.__module__ for base in type(calculator).__mro__}
    return own.union(*map(modules_of, getattr(calculator, "parts", ())))


def modules_named(spec: Any) -> list[str]:
    """Modules that names of calculators refer to: a function may return a class of another module."""
    if isinstance(spec, Mapping):
        return [name for key, value in spec.items() for part in (key, value) for name in modules_named(part)]
    if isinstance(spec, list | tuple):
        return [name for part in spec for name in modules_named(part)]
    named = re.fullmatch(r"([a-zA-Z_][\w.]*):[a-zA-Z_]\w*", spec) if isinstance(spec, str) else None
    return [named[1]] if named else []


def packages_of(calculator: BaseCalculator) -> list[str]:
    """Packages whose versions may change what a calculator finds.

    Those of its class and base classes, ASE, those that a model was made with or its architecture names,
    those that it names itself, and those of its parts.
    """
    modules = {base.__module__.partition(".")[0] for base in type(calculator).__mro__}
    card = getattr(calculator, "card", None)
    of_model = packages_of_model(card) if isinstance(card, ModelCard) else ()
    named = {"ase", *modules, *of_model, *getattr(calculator, "packages", ())}
    of_parts = {name for part in getattr(calculator, "parts", ()) for name in packages_of(part)}
    return sorted((named | of_parts) - {"builtins", "abc", "asecalc_ml"})


def _without_versions(calculator: BaseCalculator) -> dict:
    return {key: value for key, value in describe_calculator(calculator).items() if key != "versions"}


def _kind(name: str) -> Callable[..., BaseCalculator]:
    if name in REFERENCES:
        return _reference(name, *REFERENCES[name])
    if name == "committee":
        from asecalc_ml.calculators.committee import Committee

        return Committee
    if ":" in name:
        return _import_class(name)
    from asecalc_ml.calculators.ml_calculator import MLCalculator

    return partial(MLCalculator, name)


def _split(spec: CalculatorSpec) -> tuple[str, dict]:
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping) and len(spec) == 1:
        name, arguments = next(iter(spec.items()))
        if isinstance(name, str) and (arguments is None or isinstance(arguments, Mapping)):
            return name, dict(arguments or {})
    raise ConfigError(
        f"calculator is {spec!r}: give a model's name, 'gfn2-xtb', 'module:Class', 'committee', or one of "
        "these with its arguments as in {'ase.calculators.lj:LennardJones': {'epsilon': 0.01}}"
    )


def _reference(name: str, place: str, package: str) -> type:
    try:
        return _import_module_class(place)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ModelError(f"{name} needs {package}: pip install 'asecalc-ml[reference]'") from None


def _import_module_class(place: str) -> type:
    module_name, _, class_name = place.partition(":")
    return getattr(importlib.import_module(module_name), class_name)


def _import_class(name: str) -> type:
    try:
        return _import_module_class(name)
    except ImportError as error:
        raise ConfigError(
            f"calculator '{name}': {error}. Is the package installed? A module of your own is "
            "looked for in the current folder and in that of the YAML file"
        ) from None
    except (AttributeError, ValueError):
        module_name, _, class_name = name.partition(":")
        raise ConfigError(f"calculator '{name}': '{module_name}' has no class '{class_name}'") from None


def _build(kind: Callable[..., BaseCalculator], name: str, arguments: dict) -> BaseCalculator:
    try:
        calculator = kind(**arguments)
    except AsecalcError:
        raise
    except Exception as error:  # a foreign constructor: whatever it raises, its text is the message
        raise ConfigError(f"calculator '{name}' cannot be made with {arguments}: {error}") from error
    if not hasattr(calculator, "get_potential_energy"):
        raise ConfigError(f"'{name}' is not an ASE calculator")
    return calculator


def _parameters(calculator: BaseCalculator) -> dict:
    """Those that hold for every structure: values that JSON knows, the others as text."""
    simple, passing = (str, int, float, bool, type(None)), getattr(calculator, "of_the_structure", ())
    items = dict(getattr(calculator, "parameters", {})).items()
    return {
        str(key): value if isinstance(value, simple) else str(value)
        for key, value in items
        if key not in passing
    }
