"""Options: round trips, and messages that say where the mistake is and what is allowed."""

import pickle
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError
from raising import told

from asecalc_ml.config.options import (
    Options,
    dump_yaml,
    load_options,
    parse_options,
    parse_value,
    read_yaml,
    schema,
    template,
)
from asecalc_ml.config.suggestions import nearest_name
from asecalc_ml.errors import ConfigError


class Sampling(Options):
    """Where frames come from."""

    temperature_K: float = Field(300.0, gt=0, description="temperature of the thermostat")
    element: str = Field("C", description="symbol")


class Cooking(Options):
    """Cook a molecule.

    More text that a template leaves out.
    """

    method: Literal["boil", "fry"] = Field("boil", description="how")
    structure: str | dict[str, dict] = Field(description="what to cook")
    timestep_fs: float = Field(0.1, gt=0, description="time step")
    steps: int = Field(100, ge=1, description="number of steps")
    relax: bool = Field(True, description="relax first")
    cutoff_A: float | None = Field(None, description="cutoff")
    output: Path = Field(Path("out"), description="where")
    name: str = Field("egg", pattern="^[a-z]+$", description="of the dish")
    weights: list[float] = Field([1.0, 2.0], min_length=1, description="one per pot")
    sampling: Sampling = Field(Sampling(), description="sampling")


def load(tmp_path, text: str) -> Cooking:
    path = tmp_path / "pot.yaml"
    path.write_text(text, encoding="utf-8")
    return load_options(path, Cooking)


def complaint(tmp_path, text: str) -> str:
    """The message without the folder."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return str(caught.value).replace(f"{tmp_path}/", "")


# ------------------------------------------------------------------------------------------- round trips

printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=40)
treacherous = st.sampled_from(
    ["no", "yes", "on", "null", "~", "1e-3", "0x1F", "1:30", "", " ", "- a", "a: b", "#", "!t"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | printable | treacherous
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(printable, inner, max_size=3)
)


@given(st.dictionaries(printable | treacherous, trees, max_size=4))
def test_yaml_reads_back_as_it_was(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("yaml") / "any.yaml"
    path.write_text(dump_yaml(data), encoding="utf-8")
    assert read_yaml(path) == data


@given(
    method=st.sampled_from(["boil", "fry"]),
    structure=printable,
    timestep_fs=st.floats(1e-300, 1e300),
    steps=st.integers(1, 10**18),
    relax=st.booleans(),
    cutoff_A=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    weights=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3),
    sampling=st.builds(
        Sampling, temperature_K=st.floats(1e-3, 1e5), element=st.sampled_from(["No", "N", "Y", "1e3"])
    ),
)
def test_options_read_back_as_they_were(tmp_path_factory, **options):
    cooking = Cooking(**options)
    assert load(tmp_path_factory.mktemp("yaml"), dump_yaml(cooking)) == cooking


# ------------------------------------------------------------------------------------------- YAML 1.2


@pytest.mark.smoke
def test_numbers_and_words_as_in_yaml_1_2(tmp_path):
    options = load(
        tmp_path, "structure: no\ntimestep_fs: 1e-3\nsampling: {temperature_K: 1e4, element: No}\n"
    )
    assert options.structure == "no"
    assert options.timestep_fs == 0.001
    assert (options.sampling.temperature_K, options.sampling.element) == (10000.0, "No")


def test_ruamel_types_do_not_leak(tmp_path):
    options = load(tmp_path, 'structure: {"a:B": {x: 1e-3, y: [0x10, &t true, *t]}}\n')
    inner = options.structure["a:B"]
    assert type(inner) is dict
    assert [type(inner["x"]), *map(type, inner["y"])] == [float, int, bool, bool]


# ------------------------------------------------------------------------------------------- messages


def test_unknown_key_names_line_and_nearest_key(tmp_path):
    text = "# a comment\nstructure: egg\n\ntimstep_fs: 0.5\n"
    assert (
        complaint(tmp_path, text) == "pot.yaml, line 4: unknown key 'timstep_fs'; did you mean 'timestep_fs'?"
    )


def test_unknown_key_without_unit_finds_the_one_with_it(tmp_path):
    assert "did you mean 'timestep_fs'?" in complaint(tmp_path, "structure: egg\nTimestep: 0.5\n")


def test_unknown_key_far_from_all_lists_them(tmp_path):
    assert "unknown key 'xyzzy'; the keys are method, structure," in complaint(
        tmp_path, "structure: a\nxyzzy: 1\n"
    )


def test_unknown_key_deeper_down(tmp_path):
    text = "structure: egg\nsampling:\n  temperature_K: 300\n  elemnt: C\n"
    expected = "pot.yaml, line 4: unknown key 'sampling.elemnt'; did you mean 'sampling.element'?"
    assert complaint(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("timestep_fs: fast", "'timestep_fs' is 'fast', but should be a valid number"),
        (
            "timestep_fs: 0.5 fs",
            "'timestep_fs' is '0.5 fs', but should be a valid number: give the number alone, without a unit",
        ),
        ("timestep_fs: -1", "'timestep_fs' is -1, but should be greater than 0: the unit is fs"),
        ("timestep_fs: .nan", "'timestep_fs' is nan, but should be a finite number"),
        ("timestep_fs:", "'timestep_fs' is empty, but should be a valid number"),
        ("steps: 1.5", "'steps' is 1.5, but should be a valid integer, got a number with a fractional part"),
        ("steps: true", "'steps' is true, but should be a valid integer"),
        ("cutoff_A: true", "'cutoff_A' is true, but should be a valid number"),
        ("method: bake", "'method' is 'bake', but should be 'boil' or 'fry'"),
        ("name: My Egg", "'name' is 'My Egg', but should match pattern '^[a-z]+$'"),
        ("weights: []", "'weights' is [], but should have at least 1 item after validation, not 0"),
        ("weights: [1, two]", "'weights.1' is 'two', but should be a valid number"),
        ("sampling: hot", "'sampling' is 'hot', but should be keys and values, such as {name: value}"),
    ],
)
def test_wrong_value_says_what_came_and_what_is_allowed(tmp_path, line, message):
    assert complaint(tmp_path, f"structure: egg\n{line}\n") == f"pot.yaml, line 2: {message}"


def test_union_gives_one_message(tmp_path):
    message = (
        "pot.yaml, line 1: 'structure' is 3, but should be a valid string or keys and values, such as "
        "{name: value}"
    )
    assert complaint(tmp_path, "structure: 3\n") == message


def test_missing_key_says_its_meaning(tmp_path):
    assert complaint(tmp_path, "steps: 3\n") == "pot.yaml: key 'structure' is missing (what to cook)"


def test_all_mistakes_are_told_in_the_order_of_the_lines(tmp_path):
    lines = complaint(tmp_path, "structure: egg\nsteps: 0\nmthod: fry\ntimestep_fs: 0\n").splitlines()
    assert [line.split(":")[0] for line in lines] == [f"pot.yaml, line {n}" for n in (2, 3, 4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("structure: egg\n steps: 3\n", "line 2: this is not valid YAML"),
        ("structure: [egg\n", "this is not valid YAML"),
        ("structure: egg\n\tsteps: 3\n", "line 2: this is not valid YAML"),
        ("structure: egg\nsteps: 3\nsteps: 4\n", "line 3: this is not valid YAML: found duplicate key"),
        ("- egg\n", "expected keys and values such as `name: value`, got ['egg']"),
        ("egg\n", "expected keys and values such as `name: value`, got 'egg'"),
        ("structure: !!python/name:os.system x\n", "YAML tags such as"),
        ("structure: &a {x: *a}\n", "'structure' is {'x': None}, but should be a valid string"),
        ("a: 1\n---\nb: 2\n", "this is not valid YAML"),
        ("", "key 'structure' is missing"),
        ("structure: \x07\n", "this is not valid YAML"),
    ],
)
def test_broken_yaml(tmp_path, text, message):
    assert message in complaint(tmp_path, text)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, check=told(name="nowhere.yaml", problem="no such file")):
        load_options(tmp_path / "nowhere.yaml", Cooking)


def test_directory_in_place_of_a_file(tmp_path):
    with pytest.raises(ConfigError, check=told(name=str(tmp_path))):
        load_options(tmp_path, Cooking)


def test_binary_file(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, check=told(name="model.yaml")):
        load_options(path, Cooking)


def test_plain_dict_has_no_lines_but_a_source():
    is_said = told(name="stepz", value=3, allowed=["steps"], remedy="'steps'")
    with pytest.raises(ConfigError, check=is_said) as error:
        parse_options({"structure": "egg", "stepz": 3}, Cooking, source="command line")
    assert str(error.value).startswith("command line: ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("steps: 0", {"name": "steps", "value": 0, "allowed": "greater than or equal to 1", "remedy": None}),
        ("steps: 1,000", {"name": "steps", "value": "1,000", "allowed": "integer", "remedy": "thousands"}),
        ("timestep_fs: -1", {"name": "timestep_fs", "value": -1, "allowed": "0", "remedy": "the unit is fs"}),
        ("method: bake", {"name": "method", "value": "bake", "allowed": ["boil", "fry"]}),
        ("relax: maybe", {"name": "relax", "value": "maybe", "allowed": "true or false"}),
        ("steps: true", {"name": "steps", "value": True, "allowed": "integer"}),
        ("weights: [1, a]", {"name": "weights.1", "value": "a", "allowed": "number"}),
        ("weights: []", {"name": "weights", "value": [], "allowed": "at least 1 item"}),
        ("sampling: {temperature_K: -3}", {"name": "sampling.temperature_K", "value": -3, "remedy": "K"}),
        ("stepz: 3", {"name": "stepz", "value": 3, "allowed": ["steps", "method"], "remedy": "'steps'"}),
        ("qqq: 3", {"name": "qqq", "value": 3, "allowed": ["steps", "method"], "remedy": "method, "}),
        ("element: N", {"name": "element", "value": "N", "remedy": "'sampling.element'"}),
    ],
)
def test_mistakes_have_attributes(line, said, tmp_path):
    with pytest.raises(ConfigError, check=told(**said)) as error:
        load(tmp_path, f"structure: egg\n{line}\n")
    assert vars(pickle.loads(pickle.dumps(error.value))) == vars(error.value)


def test_each_of_several_mistakes_has_attributes(tmp_path):
    """In the order of the lines; the attributes of the whole are those of the first."""
    with pytest.raises(ConfigError, check=told(name="steps", value=0)) as error:
        load(tmp_path, "steps: 0\nstructure:\nmethod: bake\n")
    attributes = [(other.name, other.value) for other in error.value.others]
    assert attributes == [("structure", None), ("method", "bake")]
    lines = str(error.value).splitlines()
    assert [line.partition(", ")[2].partition(":")[0] for line in lines] == ["line 1", "line 2", "line 3"]
    assert lines[1:] == [str(other) for other in error.value.others]


def test_a_section_is_part_of_the_name():
    data = {"sampling": {"temperature_K": "hot"}}
    with pytest.raises(ConfigError, check=told(name="sampling.temperature_K", value="hot")):
        parse_options(data, Sampling, within=("sampling",))
    with pytest.raises(ConfigError, check=told(name="sampling", value="3", allowed="keys and values")):
        parse_options({"sampling": 3}, Sampling, within=("sampling",))


def test_options_do_not_change():
    with pytest.raises(ValidationError):
        Cooking(structure="egg").steps = 5


def test_python_refuses_what_yaml_refuses():
    with pytest.raises(ValidationError):
        Cooking(structure="egg", stepz=3)


def test_nearest_name_ignores_capitals():
    assert nearest_name("TIMESTEP", ["steps", "timestep_fs"]) == "timestep_fs"
    assert nearest_name("qqq", ["steps", "timestep_fs"]) is None


def test_one_value():
    assert parse_value("[300, 5e2]") == [300, 500.0]
    with pytest.raises(ConfigError, check=told(value="[300")):
        parse_value("[300")


# ------------------------------------------------------------------------------------------- templates


def test_template_is_yaml_that_lacks_only_what_is_required(tmp_path):
    text = template(Cooking)
    assert load(tmp_path, text.replace("structure:  # required", "structure: egg")) == Cooking(
        structure="egg"
    )
    assert "'structure' is empty" in complaint(tmp_path, text)


def test_template_explains_every_option():
    text = template(Cooking)
    assert text.startswith("# Cook a molecule.\n")
    assert all(f"# {field.description}" in text for field in Cooking.model_fields.values())
    assert "# how; one of boil, fry\nmethod: boil\n" in text


def test_schema_holds_every_option():
    assert set(schema(Cooking)["properties"]) == set(Cooking.model_fields)
    assert schema(Cooking)["additionalProperties"] is False
