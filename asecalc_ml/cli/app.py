"""What every command does with its arguments before it runs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from asecalc_ml.config.suggestions import nearest_name
from asecalc_ml.errors import ConfigError

if TYPE_CHECKING:
    from typer._click.core import Context, Parameter


#: Brackets that rich reads as a tag of markup, and leaves out of what it prints.
TAG = re.compile(r"\[(?=[a-z#/@][^\[]*\])")


#: Where contexts have the name of the command that runs, such as "asecalc-ml data label".
COMMAND = "asecalc_ml.command"


class Literal:
    """Help whose square brackets are printed, and not read as markup: base of commands and groups."""

    help: str | None
    short_help: str | None
    epilog: str | None
    params: list[Parameter]

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        if self.rich_markup_mode != "rich":  # type: ignore[attr-defined]  # of typer's classes
            return
        for key in ("help", "short_help", "epilog"):
            setattr(self, key, _escaped(getattr(self, key)))
        for parameter in self.params:
            parameter.help = _escaped(getattr(parameter, "help", None))  # type: ignore[attr-defined]


def _escaped(text: str | None) -> str | None:
    """Text with a backslash before what would be a tag (``rich.markup.escape`` without importing rich)."""
    return text and TAG.sub(r"\\[", text)


class Group(Literal, TyperGroup):
    """A group of commands."""


class App(typer.Typer):
    """A typer application of :class:`Command`."""

    def __init__(self, **settings: Any):
        super().__init__(**{"cls": Group, **settings})

    def command(self, name: str | None = None, **settings: Any) -> Callable:
        """Register a command."""
        return super().command(name, cls=Command, **settings)


class Command(Literal, TyperCommand):
    """A command that takes options of a file at any place, and loses no value that it is given.

    What no option of the command itself is, is left in ``context.args`` where extra arguments are allowed.
    """

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Divide options of the command and of the file, and read the former."""
        own, others = self._divided(ctx, args) if ctx.allow_extra_args else (args, [])
        self._refuse_repeated(ctx, own)
        ctx.args = [*super().parse_args(ctx, own), *others]
        return ctx.args

    def invoke(self, ctx: Context) -> Any:
        """Run the command."""
        ctx.meta[COMMAND] = ctx.command_path
        return super().invoke(ctx)

    def _divided(self, ctx: Context, args: list[str]) -> tuple[list[str], list[str]]:
        """Arguments and options of the command, and what else there is, in the order given."""
        parameters = self.get_params(ctx)
        with_value = {name: _takes_value(parameter) for parameter in parameters for name in _names(parameter)}
        short = {name[1] for name in with_value if len(name) == 2}
        own: list[str] = []
        others: list[str] = []
        rest = list(args)
        n_arguments = sum(parameter.param_type_name == "argument" for parameter in parameters)
        while rest:
            token = rest.pop(0)
            name, equals, _ = token.partition("=")
            is_known = name in with_value or (token.startswith("-") and set(token[1:]) <= short)
            is_argument = not token.startswith("-") and n_arguments > 0
            chosen = own if is_known or is_argument else others
            chosen.append(token)
            next_is_value = bool(rest) and token.startswith("--") and not rest[0].startswith("--")
            if not equals and rest and with_value.get(name, next_is_value):
                chosen.append(rest.pop(0))
            n_arguments -= is_argument
        self._refuse_misspelled(others, list(with_value), n_arguments)
        return own, others

    def _refuse_misspelled(self, others: list[str], known: list[str], n_missing: int) -> None:
        """Name the option of the command that stands for one without a value, or that took an argument."""
        for name, value in itertools.pairwise([*others, "--"]):
            is_alone = name.startswith("--") and "=" not in name and (n_missing > 0 or value.startswith("--"))
            near = nearest_name(name, known) if is_alone else None
            if near:
                raise ConfigError(
                    f"{self.name} has no option {name};",
                    name=name,
                    value=name,
                    allowed=known,
                    remedy=f"did you mean {near}?",
                )

    def _refuse_repeated(self, ctx: Context, args: list[str]) -> None:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        once = [option for option in order if _takes_value(option) and not option.multiple]
        for option in once:
            if once.count(option) > 1:
                raise given_twice(option.opts[0])


def given_twice(name: str, remedy: str = "give it once") -> ConfigError:
    """Make the error about an option whose first value would be lost."""
    return ConfigError(f"{name} is given twice", name=name, remedy=remedy)


def _takes_value(parameter: Parameter) -> bool:
    return isinstance(parameter, TyperOption) and not parameter.is_flag and not parameter.count


def _names(parameter: Parameter) -> list[str]:
    is_option = parameter.param_type_name == "option"
    return [*parameter.opts, *parameter.secondary_opts] if is_option else []
