"""Arguments of calculators of other packages: a misspelled one is refused where the class allows a decision.

ASE's base class stores every keyword as a parameter, whether or not anything reads it.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import warnings
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Any

from ase.calculators.calculator import Calculator, FileIOCalculator

from asecalc_ml.calculators.protocol import offered
from asecalc_ml.config.suggestions import unknown_name_error
from asecalc_ml.errors import ConfigError

SIMILAR = 0.8  # difflib's ratio above which a name that may be free looks like a declared one misspelled
ALL_ENTRIES = {"items", "keys", "values", "copy"}  # methods of a dictionary that read all of it
READERS = {"get", "pop", "setdefault"}  # that read one entry


def check_arguments(kind: Callable, name: str, arguments: Collection[str]) -> None:
    """Refuse arguments that a calculator's class would ignore.

    Known are the arguments of its constructor and those of its base classes, its ``default_parameters``, and
    every name that its code reads. Classes that pass all keywords on, as those that write input files do, or
    that read entries by names which are not written in their code, and functions with ``**kwargs`` take any
    argument. Of a ``functools.partial`` the class or function inside decides.

    Parameters
    ----------
    kind : callable
        The class or function that makes the calculator.
    name : str
        Its name in messages.
    arguments : collection of str

    Raises
    ------
    ConfigError
        For an unknown argument, with the nearest known one.

    Warns
    -----
    UserWarning
        If the class takes any argument, and the name of one is close to a declared name.
    """
    while isinstance(kind, partial):
        kind = kind.func
    declared = _declared(kind)
    if declared.issuperset(arguments):
        return
    known = declared | _names_in_code(kind)
    strange = [key for key in arguments if key not in known]
    if strange and not _takes_any(kind):
        raise unknown_argument(name, strange[0], declared)
    _warn(name, strange, declared)


def unknown_argument(name: str, key: str, known: Collection[str]) -> ConfigError:
    """The error for an argument that a calculator does not have."""
    remedy = f"It has {', '.join(sorted(known)) or 'none'}"
    return unknown_name_error(ConfigError, f"{name} has no argument {key!r}", key, known, remedy)


def _warn(name: str, strange: list[str], declared: Collection[str]) -> None:
    for key in strange:
        for near in difflib.get_close_matches(key, declared, n=1, cutoff=SIMILAR):
            warnings.warn(
                f"{name} declares no argument {key!r} and takes it unchecked: did you mean {near!r}?",
                stacklevel=2,
            )


# ---------------------------------------------------------------------------------------------- signatures


def _declared(kind: Callable) -> set[str]:
    """Arguments of the constructors that keywords reach, and ``default_parameters``."""
    defaults = offered(kind).default_parameters
    explicit = {name for maker in _makers(kind) for name in _names(maker)}
    return explicit | set(defaults if isinstance(defaults, dict) else ())


def _takes_any(kind: Callable) -> bool:
    makers = _makers(kind)
    if not makers:
        return True
    if _free_name(makers[0]) is None:  # Python itself refuses others
        return False
    if (
        makers[-1] is not Calculator.__init__
        or not isinstance(kind, type)
        or issubclass(kind, FileIOCalculator)
    ):
        return True
    try:
        return any(map(_passes_all_on, _classes(kind)))
    except (OSError, TypeError, SyntaxError):  # its source cannot be read
        return True


def _makers(kind: Callable) -> list[Callable]:
    """Constructors from that of the class up to the first without ``**kwargs``, or to that of ASE's base."""
    makers = [kind]
    if isinstance(kind, type):
        makers = [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base)]
    reached = []
    with suppress(TypeError, ValueError):  # of what cannot be called, or is compiled
        for maker in makers:
            free = _free_name(maker)
            reached.append(maker)
            if free is None or maker is Calculator.__init__:
                break
    return reached


def _names(maker: Callable) -> list[str]:
    free = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = inspect.signature(maker).parameters
    return [name for name, parameter in parameters.items() if parameter.kind not in free and name != "self"]


def _free_name(maker: Callable) -> str | None:
    """The name of ``**kwargs``, None where there is none."""
    kinds = {parameter.kind: name for name, parameter in inspect.signature(maker).parameters.items()}
    return kinds.get(inspect.Parameter.VAR_KEYWORD)


# ---------------------------------------------------------------------------------------------- source code


def _classes(kind: type) -> tuple[type, ...]:
    """The class and its bases below ASE's."""
    return kind.__mro__[: kind.__mro__.index(Calculator)]


def _names_in_code(kind: Callable) -> set[str]:
    """Attributes, keywords and strings in the modules of a class and of its bases below ASE's."""
    makers = _makers(kind)
    if not makers or makers[-1] is not Calculator.__init__ or not isinstance(kind, type):
        return set()
    nodes = [node for base in _classes(kind) for node in ast.walk(_tree(inspect.getmodule(base)))]
    names = {getattr(node, "attr", None) or getattr(node, "arg", None) for node in nodes}
    constants = {node.value for node in nodes if isinstance(node, ast.Constant)}
    return {name for name in names | constants if isinstance(name, str)}


def _tree(source_of: Any) -> ast.AST:
    return ast.parse(inspect.cleandoc("\n" + inspect.getsource(source_of)))


def _passes_all_on(kind: type) -> bool:
    """Return True if a class passes all keywords or parameters on to more than ASE's base class."""
    maker = vars(kind).get("__init__")
    keywords = maker is not None and _reaches_whole(
        _tree(maker), lambda node: _is_name(node, _free_name(maker))
    )
    return keywords or _reaches_whole(_tree(kind), _is_parameters)


def _is_name(node: ast.AST, name: str | None) -> bool:
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)


def _is_parameters(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "parameters" and isinstance(node.ctx, ast.Load)


def _reaches_whole(node: ast.AST, is_dict: Callable[[ast.AST], bool]) -> bool:
    """Return True if code uses a dictionary for more than named entries and ASE's base class."""
    if _reads_computed_name(node, is_dict):
        return True
    parts = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Subscript | ast.Compare) or getattr(node, "attr", "items") not in ALL_ENTRIES:
        parts = [part for part in parts if not is_dict(part)]
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("__init__", "set"):
        parts = [part for part in parts if getattr(part, "arg", "") is not None]
    return any(is_dict(part) or _reaches_whole(part, is_dict) for part in parts)


def _reads_computed_name(node: ast.AST, is_dict: Callable[[ast.AST], bool]) -> bool:
    """Return True if code reads or tests an entry of a dictionary by a computed name."""
    key: ast.expr | None
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        key, read = node.slice, [node.value]
    elif isinstance(node, ast.Compare):
        key, read = node.left, node.comparators
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READERS:
        key, read = next(iter(node.args), None), [node.func.value]
    else:
        return False
    return any(map(is_dict, read)) and not isinstance(key, ast.Constant)
