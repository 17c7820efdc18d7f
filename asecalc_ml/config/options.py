"""Options from YAML, checked by pydantic, with messages that name the line and the nearest key.

Every option is written once, as a field of an :class:`Options` model; YAML, templates, schema and Python
share it. YAML is read as version 1.2: `1e-3` is a number and `no` is the text "no".
"""

import io
import re
import typing
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from asecalc_ml.config.suggestions import nearest_name
from asecalc_ml.config.unit_hints import unit_hint
from asecalc_ml.errors import AsecalcError, ConfigError, together

Model = TypeVar("Model", bound=BaseModel)
Steps = tuple[Any, ...]  # keys and indices that lead to a value


class _NeededInFiles:
    """Marks an option that a file must hold, and Python may give in another way."""


#: As in ``structure: Annotated[str | None, NEEDED_IN_FILES] = None``; see :func:`parse_file`.
NEEDED_IN_FILES = _NeededInFiles()

#: Pydantic's words for what a value should be, in those of YAML.
PLAIN_WORDS = {
    "dict_type": "should be keys and values, such as {name: value}",
    "model_type": "should be keys and values, such as {name: value}",
    "list_type": "should be a list, such as [a, b]",
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "path_type": "should be a path",
}

OUT_OF_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}

NO_NUMBER = {"int_parsing", "float_parsing"}

#: What is wrong with a text that looks like a number.
NUMBER_HINTS = {
    r"\s*[-+]?\d[\d.]*(,\d+)+([eE][-+]?\d+)?\s*": "decimals follow a point, and thousands have no comma",
    r"\s*[\u2010-\u2015\u2212]\s*[\d.,]+.*": "a minus sign is written as a hyphen, -1",
    r"\s*[-+]?[\d.]+(e[-+]?\d+)?\s*[^\d\s.,]+": "give the number alone, without a unit",
}

#: What helps where YAML's own words do not.
YAML_HINTS = {
    r"'\t'": "indent with spaces, not tabs",
    "mapping values are not allowed": "a text that holds ': ' needs quotes, and every key a line of its own",
    "could not find expected ':'": "every line is `key: value`",
    "undefined alias": "a text that begins with * needs quotes",
    "another document": "one file holds one set of options, without `---` between them",
}


class Options(BaseModel):
    """Base of all option models: unknown keys are refused, instances do not change, numbers are finite.

    Examples
    --------
    >>> from pydantic import Field
    >>> class Heating(Options):
    ...     temperature_K: float = Field(300.0, gt=0, description="target temperature")
    >>> Heating(temperature_K=500).temperature_K
    500.0
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _true_is_not_one(cls, data: Any) -> Any:
        """Python takes True for 1. As text it gets the message of a wrong type, at its own line."""
        if not isinstance(data, Mapping):
            return data
        numbers = {key for key, field in cls.model_fields.items() if _is_number(field)}
        return {k: str(v) if isinstance(v, bool) and k in numbers else v for k, v in data.items()}


def _is_number(field: FieldInfo) -> bool:
    types = set(_flat(field.annotation))
    return bool(types & {int, float}) and not types & {bool, str, Any}


# ---------------------------------------------------------------------------------------------- reading


def load_options(path: str | Path, model: type[Model]) -> Model:
    """Read a YAML file into an option model.

    Parameters
    ----------
    path : str or Path
    model : subclass of :class:`Options`

    Raises
    ------
    ConfigError
        If the file is missing or broken, or holds an unknown key, a wrong type or a value out of range.
    """
    return parse_options(read_yaml(path), model, source=str(path))


def parse_options(data: Mapping, model: type[Model], source: str = "options", within: Steps = ()) -> Model:
    """Check a mapping, or a section of it, against an option model.

    Parameters
    ----------
    data : mapping
        From :func:`read_yaml`, whose messages then carry line numbers, or any dict.
    model : subclass of :class:`Options`
    source : str
        What messages call the data, usually the file's name.
    within : tuple
        Keys that lead to the section; an empty one has no options set. Messages name them too.

    Raises
    ------
    ConfigError
        One line for each key that is unknown, missing, of a wrong type or out of range. The attributes are
        those of the first key, whose path is ``name``; ``others`` holds an error for each of the rest.
    """
    section = data
    for key in within:
        section = section[key]
    if within and section is None:
        section = {}
    if not isinstance(section, Mapping):
        error = _not_a_mapping(section, name=_dotted(within) or None)
        error = error.at(repr(error.name)) if within else error
        raise error.at(locate(source, data, *within))
    try:
        return model.model_validate(_plain(section))
    except ValidationError as error:
        raise together(ConfigError, _mistakes(error, data, model, source, within)) from error
    except AsecalcError as error:
        raise error.as_kind(ConfigError).at(source) from error


def parse_file(data: Mapping, model: type[Model], source: str) -> Model:
    """Check the options of a user's file: as :func:`parse_options`, and nothing that it needs may be missing.

    Raises
    ------
    ConfigError
        One line for each key, those of empty options marked :data:`NEEDED_IN_FILES` first.
    """
    empty = {key: field for key, field in model.model_fields.items() if _is_needed(field)}
    mistakes = [
        _mistake((key,), _empty(key, field, key in data), data).at(locate(source, data, key))
        for key, field in empty.items()
        if data.get(key) is None
    ]
    try:
        options = parse_options(data, model, source)
    except ConfigError as error:
        raise together(ConfigError, [*mistakes, error]) from error
    if mistakes:
        raise together(ConfigError, mistakes)
    return options


def read_yaml(path: str | Path) -> CommentedMap:
    """Read a YAML 1.2 file whose top level is a mapping; the result remembers its line numbers.

    Raises
    ------
    ConfigError
        If the file is missing, cannot be read, or is not valid YAML; the message says the line.
    """
    try:
        data = YAML().load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file (looked in {Path.cwd()})", name=str(path)) from error
    except IsADirectoryError as error:
        problem = f"{path} is a directory, expected a YAML file"
        raise ConfigError(problem, name=str(path)) from error
    except UnicodeDecodeError as error:
        problem = f"{path} is not a text file in UTF-8, so it cannot be YAML"
        raise ConfigError(problem, name=str(path)) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise _broken_yaml(path, error) from error
    if data is None:
        return CommentedMap()
    if not isinstance(data, CommentedMap):
        raise _not_a_mapping(data, name=str(path)).at(str(path))
    return data


def _not_a_mapping(value: Any, name: str | None) -> ConfigError:
    shown = _show(value)
    problem = f"expected keys and values such as `name: value`, got {shown}"
    return ConfigError(problem, name=name, value=shown, allowed="keys and values")


def parse_value(text: str) -> Any:
    """Read one YAML value, such as "1e-3" or "[300, 500]", as a plain Python value.

    Keys and values need their braces here: "smiles:" and "frames.xyz@:" are texts.
    """
    try:
        value = _plain(YAML().load(text))
        return text if isinstance(value, dict) and not text.lstrip().startswith("{") else value
    except (YAMLError, ValueError) as error:
        problem = f"{text!r} is not a valid YAML value: {str(error).splitlines()[0]}"
        raise ConfigError(problem, value=text) from error


def _broken_yaml(path: str | Path, error: Exception) -> ConfigError:
    mark = getattr(error, "problem_mark", None) if isinstance(error, MarkedYAMLError) else None
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    where = f", line {mark.line + 1}" if mark else ""
    hints = [hint for words, hint in YAML_HINTS.items() if words in problem]
    return ConfigError(
        f"{path}{where}: this is not valid YAML: {problem}{';' * bool(hints)}",
        name=str(path),
        value=problem,
        remedy="; ".join(hints) or None,
    )


def _plain(value: Any) -> Any:
    """Plain Python values in place of ruamel's, which remember how they were written."""
    if isinstance(value, Mapping):
        return {_plain_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, TaggedScalar):
        tag = str(value.tag.value)
        raise ConfigError(
            f"YAML tags such as {tag} are not supported", name=tag, value=tag, remedy="write the plain value"
        )
    if isinstance(value, bool | ScalarBoolean):
        return bool(value)
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _plain_key(key: Any) -> Any:
    if isinstance(key, Mapping | list | tuple):
        problem, value = f"a key is {_show(_plain(key))}", _plain(key)
        raise ConfigError(problem, value=value, remedy="write a text or a number before the colon")
    return _plain(key)


# ---------------------------------------------------------------------------------------------- messages


class _Complaint(NamedTuple):
    """What is wrong with an option, in words that follow its name and value if they begin with "should"."""

    problem: str
    allowed: Any = None
    remedy: str = ""


def _mistakes(
    error: ValidationError, data: Mapping, model: type[BaseModel], source: str, within: Steps
) -> list[ConfigError]:
    """One error per place in the data, in the order of the lines; a union's many complaints become one."""
    found: dict[Steps, list[_Complaint]] = defaultdict(list)
    for item in error.errors(include_url=False):
        path = _path_in(data, (*within, *item["loc"]), item["type"])
        found[path].append(_complaint(item, path, model, len(within)))
    ordered = sorted(found, key=lambda path: _line(data, path) or 0)
    return [_mistake(path, _merged(found[path]), data).at(locate(source, data, *path)) for path in ordered]


def _path_in(data: Any, loc: Steps, kind: str) -> Steps:
    """The part of pydantic's location that exists in the data; the names of union members are left out."""
    path: list[Any] = []
    for step in loc:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            continue
        path.append(step)
    return (*path, loc[-1]) if kind == "missing" else tuple(path)


def _complaint(item: Mapping, path: Steps, model: type[BaseModel], depth: int) -> _Complaint:
    """What is wrong at a path, of whose steps so many lead to the model."""
    if item["type"] == "extra_forbidden":
        return _unknown_key(path, model, depth)
    field = _field(model, path[depth:])
    if field is not None and field.is_required() and (item["type"] == "missing" or item["input"] is None):
        return _empty(_dotted(path), field, is_there=item["type"] != "missing")
    if item["type"] in PLAIN_WORDS:
        return _expected(PLAIN_WORDS[item["type"]])
    words = item["msg"].partition(", unable to parse")[0]
    words = re.sub(r"^\w+ should", "should", words).removeprefix("Value error, ")  # "Input should be ..."
    if item["type"] in NO_NUMBER:
        return _expected(words, _number_hint(str(item["input"])))
    if item["type"] == "literal_error":
        return _Complaint(words, [name for names in _choices(field) for name in names] if field else None)
    return _expected(words, _unit_hint(item, path, field) if item["type"] in OUT_OF_BOUNDS else "")


def _expected(words: str, remedy: str = "") -> _Complaint:
    """A complaint whose words, such as "should be a list", say what is allowed."""
    allowed = words.removeprefix("should be ").removeprefix("should ") if words.startswith("should") else None
    return _Complaint(words, allowed, remedy)


def _merged(complaints: Sequence[_Complaint]) -> _Complaint:
    """One complaint that joins those of the members of a union; names that are allowed go before words."""
    problem = " or ".join(dict.fromkeys(one.problem for one in complaints)).replace(" or should be", " or")
    names = [name for one in complaints if isinstance(one.allowed, list) for name in one.allowed]
    remedies = dict.fromkeys(one.remedy for one in complaints if one.remedy)
    return _Complaint(problem, names or _expected(problem).allowed, " or ".join(remedies))


def _empty(name: str, field: FieldInfo, is_there: bool) -> _Complaint:
    meaning = f" ({field.description})" if field.description else ""
    return _Complaint(f"key {name!r} is {'empty, and it is required' if is_there else 'missing'}{meaning}")


def _number_hint(text: str) -> str:
    """What is wrong with a text that looks like a number."""
    return next((hint for pattern, hint in NUMBER_HINTS.items() if re.fullmatch(pattern, text)), "")


def _unit_hint(item: Mapping, path: Steps, field: FieldInfo | None) -> str:
    names = [step for step in path if isinstance(step, str)]
    return unit_hint(names[-1], item["input"], constraints(field)) if names and field is not None else ""


def _mistake(path: Steps, complaint: _Complaint, data: Any) -> ConfigError:
    """The complaint with the key and the value got in front, where it only says what is allowed."""
    name, problem = _dotted(path), complaint.problem
    value = _value_at(data, path) if path else None
    if problem.startswith("should"):
        problem = f"{name!r} is {_show(value)}, but {problem}"
    elif path and name not in problem:
        problem = f"{name!r}: {problem}"
    return ConfigError(
        problem, name=name or None, value=value, allowed=complaint.allowed, remedy=complaint.remedy or None
    )


def _value_at(data: Any, path: Steps) -> Any:
    """The plain value at a path; None where it is missing."""
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return _plain(data)


def _unknown_key(path: Steps, model: type[BaseModel], depth: int) -> _Complaint:
    """The key and the nearest one, which may be an option of one of those beside it."""
    known = _fields(model, path[depth:-1])
    places = {key: key for key in known}
    for name, field in known.items():
        for key in (key for one in _models(field) for key in one.model_fields):
            places.setdefault(key, _dotted((name, key)))
    nearest = nearest_name(str(path[-1]), places)
    near = nearest and _dotted((*path[:-1], places[nearest]))
    hint = f"did you mean {near!r}?" if near else f"the keys are {', '.join(known)}"
    return _Complaint(f"unknown key {_dotted(path)!r};", list(known), hint)


def _fields(model: type[BaseModel], path: Steps) -> dict[str, FieldInfo]:
    """Fields of the model, or models, that stand at a path."""
    models = [model]
    for step in path:
        if isinstance(step, int):
            continue
        fields = [one.model_fields[step] for one in models if step in one.model_fields]
        models = [one for field in fields for one in _models(field)] or models
    return {key: field for one in models for key, field in one.model_fields.items()}


def _field(model: type[BaseModel], path: Steps) -> FieldInfo | None:
    """The field of an option; that of the whole list for an item of one."""
    keys = [step for step in path if not isinstance(step, int)]
    return _fields(model, tuple(keys[:-1])).get(keys[-1]) if keys else None


def constraints(field: FieldInfo) -> list[Any]:
    """Constraints and marks of a field and of the types in its annotation, such as a list's items."""
    found: list[Any] = [field.annotation]
    for one in found:  # it grows
        found += typing.get_args(one)
    inner = [part for one in found if isinstance(one, FieldInfo) for part in one.metadata]
    return [*field.metadata, *inner]


def _is_needed(field: FieldInfo) -> bool:
    return NEEDED_IN_FILES in field.metadata


def option_models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """An option model and all that its options hold, each once."""
    found = [model]
    for one in found:  # it grows
        found += [m for field in one.model_fields.values() for m in _models(field) if m not in found]
    return found


def _models(field: FieldInfo) -> list[type[BaseModel]]:
    return [one for one in _flat(field.annotation) if isinstance(one, type) and issubclass(one, BaseModel)]


def _flat(annotation: Any) -> Iterator[Any]:
    """The types in an annotation: `float | list[int] | None` gives float, int, NoneType."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if not arguments or origin is typing.Literal:
        yield annotation
        return
    for argument in arguments[:1] if origin is typing.Annotated else arguments:
        yield from _flat(argument)


def _line(data: Any, path: Steps) -> int | None:
    """Line of the key or item at a path, counted from 1; of the nearest one above it where it is missing."""
    line = None
    for step in path:
        try:
            if isinstance(data, CommentedMap):
                line = data.lc.key(step)[0] + 1
            elif isinstance(data, CommentedSeq):
                line = data.lc.item(step)[0] + 1
            data = data[step]
        except (KeyError, IndexError, TypeError):
            is_from_elsewhere = isinstance(data, Mapping) and step in data  # such as the command line
            return None if is_from_elsewhere else line
    return line


def locate(source: str, data: Any, *path: Any) -> str:
    """Name a place for a message: "nve.yaml, line 4" where the data come from :func:`read_yaml`."""
    return _where(source, _line(data, path))


def _where(source: str, line: int | None) -> str:
    return f"{source}, line {line}" if line else source


def _dotted(path: Steps) -> str:
    return ".".join(str(step) for step in path)


def _show(value: Any) -> str:
    """A value as YAML would write it, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ---------------------------------------------------------------------------------------------- writing


def dump_yaml(options: BaseModel | Mapping) -> str:
    """YAML text of options or of a mapping of plain values, which :func:`read_yaml` reads back unchanged."""
    data = options.model_dump(mode="json") if isinstance(options, BaseModel) else _plain(options)
    return _dump(data)


def _dump(data: Any) -> str:
    yaml, text = YAML(), io.StringIO()
    yaml.width = 1_000_000  # a folded line may not read back as it was
    yaml.dump(data, text)
    return text.getvalue()


def schema(model: type[BaseModel]) -> dict:
    """JSON schema of an option model, for editors that complete and check YAML."""
    found = model.model_json_schema()
    needed = [key for key, field in model.model_fields.items() if field.is_required() or _is_needed(field)]
    return found | ({"required": needed} if needed else {})


def template(model: type[BaseModel], above: Sequence[str] = ()) -> str:
    """Commented YAML with every option at its default; required ones are left empty and marked.

    The first line of the model's docstring stands on top; a field's description above its key.

    Parameters
    ----------
    model : subclass of :class:`Options`
    above : sequence of str
        Lines of the file under which the options stand, such as "model:".
    """
    title = (model.__doc__ or model.__name__).strip().splitlines()[0]
    levels = sum(line.endswith(":") for line in above)
    lines = [f"# {title}\n", *(f"{line}\n" for line in above)]
    return "".join([*lines, *_template_lines(model, levels * "  ")])


def _template_lines(model: type[BaseModel], indent: str) -> Iterator[str]:
    for key, field in model.model_fields.items():
        notes = [field.description] + [
            f"one of {', '.join(map(str, allowed))}" for allowed in _choices(field)
        ]
        yield f"\n{indent}# {'; '.join(filter(None, notes)) or key}\n"
        yield from _template_value(key, field, indent)


def _template_value(key: str, field: FieldInfo, indent: str) -> Iterator[str]:
    is_mapping = typing.get_origin(field.annotation) is dict
    inner = [] if is_mapping else _models(field)
    if inner and (field.is_required() or isinstance(field.get_default(call_default_factory=True), BaseModel)):
        yield f"{indent}{key}:\n"
        yield from _template_lines(inner[0], indent + "  ")
    elif field.is_required() or _is_needed(field):
        example = f", such as {_one_line(field.examples[0])}" if field.examples else ""
        yield f"{indent}{key}:  # required{example}\n"
    else:
        default = field.get_default(call_default_factory=True)
        text = dump_yaml(_Holder(value=default)).replace("value:", f"{key}:", 1)
        yield "".join(f"{indent}{line}\n" for line in text.splitlines())


def _one_line(value: Any) -> str:
    """A value as YAML writes it on one line, such as [300, 500]."""
    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style, yaml.width = True, 1_000_000
    yaml.dump([value], text)
    return text.getvalue().strip()[1:-1]


class _Holder(BaseModel):
    """Lets pydantic turn one default (a path, an enum, a tuple, a model) into plain values."""

    value: typing.Any


def _choices(field: FieldInfo) -> list[tuple]:
    several = [
        typing.get_args(one) for one in _flat(field.annotation) if typing.get_origin(one) is typing.Literal
    ]
    return [allowed for allowed in several if len(allowed) > 1]
