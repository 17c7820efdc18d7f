"""Checks of the options of any plugin, as a class to inherit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from asecalc_ml import plugins
from asecalc_ml.config.options import (
    Options,
    constraints,
    dump_yaml,
    load_options,
    option_models,
    parse_options,
    read_yaml,
    schema,
    template,
)
from asecalc_ml.config.unit_hints import unit_of
from asecalc_ml.errors import ConfigError
from asecalc_ml.testing.models import plugin_name


class OptionChecks:
    """What holds for the options of every plugin; the base of the checks of each group.

    Attributes
    ----------
    options : Options
        Of the plugin, with values of your choice.
    group : str
        Group of the plugin, such as "protocols".
    unbounded : sequence of str
        Options with a unit in their name for which every value may be right.
    """

    options: ClassVar[Options]
    group: ClassVar[str]
    unbounded: ClassVar[Sequence[str]] = ()

    @property
    def name(self) -> str:
        """Registered name of the plugin."""
        return plugin_name(self.group, self.options)

    def test_it_fulfils_the_contract_of_its_group(self) -> None:
        assert plugins.get(self.group, self.name) is type(self.options)

    def test_options_survive_yaml(self, tmp_path: Path) -> None:
        path = tmp_path / "options.yaml"
        path.write_text(dump_yaml(self.options), encoding="utf-8")
        assert load_options(path, type(self.options)) == self.options

    def test_template_and_schema_hold_every_option_with_its_meaning(self) -> None:
        model = type(self.options)
        text, properties = template(model), schema(model).get("properties", {})
        assert text.splitlines()[0].strip("# ") == (model.__doc__ or "").strip().splitlines()[0]
        for key, field in model.model_fields.items():
            assert f"\n{key}:" in text
            assert f"# {field.description}" in text
            assert properties[key]["description"] == field.description

    def test_template_gives_the_defaults(self, tmp_path: Path) -> None:
        """Of the options that are not set here."""
        model, path = type(self.options), tmp_path / "template.yaml"
        path.write_text(template(model), encoding="utf-8")
        given = self.options.model_dump(mode="json", exclude_unset=True)
        assert parse_options({**read_yaml(path), **given}, model) == self.options

    def test_an_unknown_option_is_refused(self) -> None:
        given = self.options.model_dump(mode="json")
        with pytest.raises(ConfigError, match="no_such_option"):
            parse_options({**given, "no_such_option": 1}, type(self.options))

    def test_options_with_a_unit_are_bounded_on_both_sides(self) -> None:
        """A number in another unit is beyond the bounds."""
        for model in option_models(type(self.options)):
            for name, field in model.model_fields.items():
                if unit_of(name) is None or name in self.unbounded:
                    continue
                marks = constraints(field)
                for side in (("ge", "gt"), ("le", "lt")):
                    assert any(hasattr(mark, key) for mark in marks for key in side), (name, side)
