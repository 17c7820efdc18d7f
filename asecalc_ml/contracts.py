"""What each group of plugins has to be: checked when a plugin is loaded, and when its methods are called.

A mistake of a plugin's author becomes a :class:`~asecalc_ml.errors.PluginError` of one sentence, which says
what to change and, for an exception, where it was raised.
"""

from __future__ import annotations

import traceback
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from asecalc_ml.config.options import option_models
from asecalc_ml.errors import AsecalcError, PluginError, lacks_room
from asecalc_ml.files.reading import described


@dataclass(frozen=True)
class Contract:
    """What an entry point of a group has to name.

    Parameters
    ----------
    base : str
        The class that it derives from, as an entry point writes it.
    required : tuple of tuple of str
        What a subclass has to define; of several names in one tuple, one.
    key : str, optional
        The option that holds the registered name, such as ``protocol``.
    is_object : bool
        True if the entry point names an instance of ``base`` and not a subclass.
    """

    base: str
    required: tuple[tuple[str, ...], ...] = ()
    key: str | None = None
    is_object: bool = False


CONTRACTS = {
    "architectures": Contract("asecalc_ml.config.options:Options", (("build",),)),
    "protocols": Contract("asecalc_ml.md_protocols.options:ProtocolOptions", (("stages",),), key="protocol"),
    "analyses": Contract("asecalc_ml.analysis.base:Analysis", (("result",), ("prepare", "run"))),
    "datasets": Contract(
        "asecalc_ml.potentials.datasets.options:DatasetOptions", (("_read",),), key="format"
    ),
    "losses": Contract("asecalc_ml.potentials.training.losses:Penalty", is_object=True),
    "targets": Contract("asecalc_ml.targets.target:TargetOptions", (("kind",),), key="name"),
    "trackers": Contract("asecalc_ml.tracking.options:TrackerOptions", (("start",),)),
    "objectives": Contract(
        "asecalc_ml.objectives.objective:ObjectiveOptions", (("label",), ("measure",)), key="objective"
    ),
}


def mistake(group: str, name: str, plugin: Any) -> str | None:
    """Return what is wrong with a plugin in one sentence; None if it fulfils the contract of its group.

    Parameters
    ----------
    group : str
        A key of :data:`CONTRACTS`.
    name : str
        As registered.
    plugin : object
        What the entry point names.
    """
    contract = CONTRACTS[group]
    base = EntryPoint("", contract.base, "").load()
    where = contract.base.replace(":", ".")
    if contract.is_object:
        return None if isinstance(plugin, base) else f"it names {_kind(plugin)}, and not an object of {where}"
    if not isinstance(plugin, type) or not issubclass(plugin, base):
        return f"it names {_kind(plugin)}, and not a class that derives from {where}"
    for names in contract.required:
        if all(getattr(plugin, one, None) is getattr(base, one, None) for one in names):
            return f"{plugin.__name__} does not define {' or '.join(f'`{one}`' for one in names)}"
    return (
        _wrong_name(plugin, contract.key, name)
        or _clashing(plugin, base, contract.key)
        or _undescribed(plugin)
    )


def _wrong_name(plugin: Any, key: str | None, name: str) -> str | None:
    """The option that holds the registered name has to hold this one."""
    if key is None:
        return None
    field = plugin.model_fields[key]
    allowed = typing.get_args(field.annotation) or (name,)
    if field.default == name and name in allowed:
        return None
    return f'{plugin.__name__} lacks the option `{key}: Literal["{name}"] = "{name}"`, which holds its name'


def _clashing(plugin: Any, base: Any, key: str | None) -> str | None:
    """Options that hide a method, or take values that the same option of the base does not allow."""
    for name, field in plugin.model_fields.items():
        option = f"the option `{name}` of {plugin.__name__}"
        if owner := next((one for one in plugin.__mro__ if name in vars(one)), None):
            return f"{option} hides `{owner.__name__}.{name}`: give it another name"
        meant = base.model_fields.get(name)
        if name == key or meant is None or meant.annotation == field.annotation or field.is_required():
            continue
        try:
            TypeAdapter(meant.annotation).validate_python(field.get_default(call_default_factory=True))
        except ValidationError:
            return f"{option} has a default that {base.__name__} does not allow there: give it another name"
    return None


def _undescribed(plugin: Any) -> str | None:
    for model in option_models(plugin):
        for key, field in model.model_fields.items():
            if not field.description:
                return f"the option `{key}` of {model.__name__} has no description: Field(description=...)"
    return None


def _kind(plugin: Any) -> str:
    if isinstance(plugin, type):
        return f"the class {plugin.__name__}"
    return f"a {type(plugin).__name__}"


@contextmanager
def plugin_code(what: str) -> Iterator[None]:
    """Turn an exception of a plugin's code into a PluginError with its type, its text and its place.

    Errors for users, and those of a full disk or memory, pass.

    Parameters
    ----------
    what : str
        What is called, such as "MyNetwork.build()".
    """
    try:
        yield
    except AsecalcError:
        raise
    except (Exception, SystemExit) as error:
        if lacks_room(error):
            raise
        raise PluginError(f"{what} raised {located(error)}", name=what) from error


def located(error: BaseException) -> str:
    """Type and text of an exception, and the file and line that raised it."""
    stack = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in stack if not _is_machinery(Path(frame.filename))]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {described(error)}{place}"


def is_inside(error: BaseException, owner: Any) -> bool:
    """Return True if an exception came from a method of an object, or from what this called."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_locals.get("self") is owner for frame, _ in frames)


def _is_machinery(file: Path) -> bool:
    """Return True for Python's imports, and for what calls them here."""
    here = Path(__file__)
    return "importlib" in str(file) or file in (here, here.with_name("plugins.py"))


def returned(what: str, value: Any, expected: str) -> PluginError:
    """Error for a method of a plugin that returned something else than it has to.

    Parameters
    ----------
    what : str
        The method, such as "MyNetwork.build()".
    value : object
        What it returned.
    expected : str
        What it has to return.
    """
    found = "None" if value is None else _kind(value)
    return PluginError(
        f"{what} returned {found}",
        name=what,
        value=found,
        allowed=expected,
        remedy=f"it has to return {expected}",
    )
