"""Any ASE calculator by name: a registered model, a committee, GFN2-xTB, DFT, or another package's class."""

import importlib
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ase.calculators.calculator import BaseCalculator

from asecalc_ml.calculators.arguments import check_arguments
from asecalc_ml.calculators.protocol import Spec, offered
from asecalc_ml.errors import AsecalcError, ConfigError, ModelError
from asecalc_ml.sources import packages_of_model, sources_of_modules, sources_of_plugins
from asecalc_ml.versions import installed_versions

#: Where the calculators of this package are. They are imported when they are named, as those of other
#: packages are: each of them may call this module, and some need a package that is not installed.
MODEL = "asecalc_ml.calculators.ml_calculator:MLCalculator"
CORRECTED = "asecalc_ml.calculators.corrections:Corrected"
NAMED = {
    "committee": "asecalc_ml.calculators.committee:Committee",
    "gfn2-xtb": "asecalc_ml.calculators.xtb:GFN2",
    "pyscf-dft": "asecalc_ml.calculators.dft:DFT",
}
#: Package that a named calculator needs.
NEEDS = {"gfn2-xtb": "tblite", "pyscf-dft": "pyscf"}

CalculatorSpec = str | Mapping[str, Mapping | None]


def make_calculator(spec: CalculatorSpec | BaseCalculator, **kwargs: Any) -> BaseCalculator:
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
    name, arguments = split_spec(spec)
    arguments.update(kwargs)
    corrections = arguments.pop("corrections", None)
    if corrections:
        return _import_module_class(CORRECTED)({name: arguments}, corrections)
    kind = _kind(name)
    if ":" in name:  # our own calculators check for themselves
        check_arguments(kind, name, arguments)
    return _build(kind, name, arguments)


def named_spec(name: str, arguments: Mapping[str, Any]) -> Spec:
    """The name alone where there are no arguments, else a mapping of the name to its arguments."""
    return {name: dict(arguments)} if arguments else name


def calculator_spec(calculator: BaseCalculator, given: Any = None) -> Spec | None:
    """What :func:`asecalc_ml.calculators.factory.make_calculator` makes the same calculator from.

    Parameters
    ----------
    calculator : calculator
    given : str or mapping, optional
        The name with arguments that it was made from, for calculators which do not offer ``spec()``.

    Returns
    -------
    str, dict or None
        Ready for JSON; a registered model is named with its hash. None if the arguments are not known: the
        parameters of other packages' calculators may lack arguments, or hold more than arguments.
    """
    own = offered(calculator).spec()
    try:
        return json.loads(json.dumps(given if own is None else own))
    except TypeError:  # an argument that is an object
        return None


def describe_calculator(calculator: BaseCalculator) -> dict:
    """What a provenance file keeps of a calculator, ready for JSON.

    Returns
    -------
    dict
        ``name``, ``class`` ("module:Class"), ``model_hash`` (None without a model),
        ``parameters`` and ``versions`` of the packages it rests on; ``members`` (descriptions like this one)
        of a committee, ``corrections`` with all their options, where there are any.
    """
    kind, offers = type(calculator), offered(calculator)
    description = {
        "name": offers.name if offers.card is None else offers.card.name,
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "model_hash": offers.model_hash,
        "parameters": _parameters(calculator),
        "versions": versions_of(calculator),
    }
    parts = {
        "members": [_without_versions(member) for member in offers.members],
        "corrections": offers.corrections or (offers.card.corrections if offers.card else []),
    }
    return description | {key: value for key, value in parts.items() if value}


def identity(calculator: BaseCalculator) -> dict:
    """What a file of frames keeps of a model, a committee or corrections, ready for JSON: names and hashes.

    Arguments that make the same calculator; nothing for calculators of other packages, whose parameters may
    be anything. Corrections of such a calculator are kept without it where its arguments are not known.
    """
    is_ours = offered(calculator).model_hash is not None or offered(calculator).corrections
    return calculator.todict() if is_ours else {}


def versions_of(calculator: BaseCalculator) -> dict[str, str]:
    """Versions of the packages that a calculator rests on, and sources of those of other parties."""
    return installed_versions(packages_of(calculator)) | sources_of(calculator)


def sources_of(calculator: BaseCalculator) -> dict[str, str]:
    """Sources of a calculator's classes, its architecture and its parts, see :mod:`asecalc_ml.sources`."""
    sources = sources_of_modules(modules_of(calculator))
    if (card := offered(calculator).card) is not None:
        sources |= sources_of_plugins([("architectures", card.architecture)])
    for part in offered(calculator).parts:
        sources |= sources_of(part)
    return sources


def modules_of(calculator: BaseCalculator) -> set[str]:
    """Modules in which the classes of a calculator and of its parts are defined."""
    own = {base.__module__ for base in type(calculator).__mro__}
    return own.union(*map(modules_of, offered(calculator).parts))


def modules_named(spec: Any) -> list[str]:
    """Modules that names of calculators refer to: a function may return a class of another module."""
    if isinstance(spec, Mapping):
        return [name for key, value in spec.items() for part in (key, value) for name in modules_named(part)]
    if isinstance(spec, list | tuple):
        return [name for part in spec for name in modules_named(part)]
    named = re.fullmatch(r"([a-zA-Z_][\w.]*):[a-zA-Z_]\w*", spec) if isinstance(spec, str) else None
    return [named[1]] if named else []


def packages_of(calculator: BaseCalculator) -> list[str]:
    """Packages whose versions may change the results of a calculator.

    Those of its class and base classes, ASE, those that a model was made with or its architecture names,
    those that it names itself, and those of its parts.
    """
    modules = {base.__module__.partition(".")[0] for base in type(calculator).__mro__}
    card = offered(calculator).card
    of_model = () if card is None else packages_of_model(card)
    named = {"ase", *modules, *of_model, *offered(calculator).packages}
    of_parts = {name for part in offered(calculator).parts for name in packages_of(part)}
    return sorted((named | of_parts) - {"builtins", "abc", "asecalc_ml"})


def _without_versions(calculator: BaseCalculator) -> dict:
    return {key: value for key, value in describe_calculator(calculator).items() if key != "versions"}


def _kind(name: str) -> Callable[..., BaseCalculator]:
    if name in NAMED:
        return _named_class(name)
    if ":" in name:
        return _import_class(name)
    return partial(_import_module_class(MODEL), name)


def split_spec(spec: CalculatorSpec) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a calculator.

    Raises
    ------
    ConfigError
        If it is neither a name nor a mapping of one name to arguments.
    """
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping) and len(spec) == 1:
        name, arguments = next(iter(spec.items()))
        if isinstance(name, str) and (arguments is None or isinstance(arguments, Mapping)):
            return name, dict(arguments or {})
    raise ConfigError(
        f"calculator is {spec!r}",
        name="calculator",
        value=spec,
        remedy="give a model's name, 'gfn2-xtb', 'module:Class', 'committee', or one of these with its "
        "arguments as in {'ase.calculators.lj:LennardJones': {'epsilon': 0.01}}",
    )


def _named_class(name: str) -> type:
    try:
        return _import_module_class(NAMED[name])
    except ImportError as error:
        package = NEEDS.get(name)
        if package is None or (error.name or "").partition(".")[0] != package:
            raise
        raise ModelError(
            f"{name} needs {package}",
            name=name,
            value=package,
            remedy="pip install 'asecalc-ml[reference]'",
        ) from None


def _import_module_class(place: str) -> type:
    module_name, _, class_name = place.partition(":")
    return getattr(importlib.import_module(module_name), class_name)


def _import_class(name: str) -> type:
    try:
        return _import_module_class(name)
    except ImportError as error:
        raise ConfigError(
            f"calculator '{name}': {error}.",
            name=name,
            remedy="Is the package installed? A module of your own is looked for in the current folder and "
            "in that of the YAML file",
        ) from None
    except (AttributeError, ValueError):
        module_name, _, class_name = name.partition(":")
        problem = f"calculator '{name}': '{module_name}' has no class '{class_name}'"
        raise ConfigError(problem, name=name, value=class_name) from None


def _build(kind: Callable[..., BaseCalculator], name: str, arguments: dict) -> BaseCalculator:
    try:
        calculator = kind(**arguments)
    except AsecalcError:
        raise
    except Exception as error:  # a foreign constructor: whatever it raises, its text is the message
        problem = f"calculator '{name}' cannot be made with {arguments}: {error}"
        raise ConfigError(problem, name=name, value=arguments) from error
    if not hasattr(calculator, "get_potential_energy"):
        raise ConfigError(f"'{name}' is not an ASE calculator", name=name)
    return calculator


def _parameters(calculator: BaseCalculator) -> dict:
    """Those that hold for every structure: values that JSON knows, the others as text."""
    simple, passing = (str, int, float, bool, type(None)), offered(calculator).of_the_structure
    return {
        str(key): value if isinstance(value, simple) else str(value)
        for key, value in offered(calculator).parameters.items()
        if key not in passing
    }
