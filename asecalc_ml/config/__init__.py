"""Options, YAML files, and suggestions for a misspelled name."""

from asecalc_ml.config.options import (
    NEEDED_IN_FILES,
    Options,
    constraints,
    dump_yaml,
    load_options,
    locate,
    option_models,
    parse_file,
    parse_options,
    parse_value,
    read_yaml,
    schema,
    template,
)

__all__ = [
    "NEEDED_IN_FILES",
    "Options",
    "constraints",
    "dump_yaml",
    "load_options",
    "locate",
    "option_models",
    "parse_file",
    "parse_options",
    "parse_value",
    "read_yaml",
    "schema",
    "template",
]
