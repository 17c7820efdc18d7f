"""Errors carry what they say, in messages and as attributes."""

import copy
import inspect
import pickle

import pytest
from raising import told

from asecalc_ml import errors
from asecalc_ml.errors import AsecalcError, ConfigError, RunError, StructureError, together

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AsecalcError)]


def example(kind=ConfigError, problem="cutoff_A is 900"):
    return kind(problem, name="cutoff_A", value=900, allowed=("1", "20"), remedy="give a length in Å")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("travel", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_attributes_travel(kind, travel):
    """Between processes, as in a campaign."""
    error = travel(example(kind))
    assert type(error) is kind
    assert str(error) == "cutoff_A is 900: give a length in Å"
    assert vars(error) == vars(example(kind))


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ("no model X", "no model X: train one"),
        ("no model X;", "no model X; train one"),
        ("no model X.", "no model X. train one"),
    ],
)
def test_the_remedy_ends_the_message(problem, message):
    assert str(AsecalcError(problem, remedy="train one")) == message
    assert str(AsecalcError(problem)) == problem


def test_a_place_goes_before_the_message():
    error = example().at("run.yaml, line 3")
    assert type(error) is ConfigError
    assert str(error) == "run.yaml, line 3: cutoff_A is 900: give a length in Å"
    assert (error.value, error.remedy) == (900, "give a length in Å")


def test_attributes_are_checked():
    with pytest.raises(ConfigError, check=told(name="cutoff_A", value=900, allowed=["20"], remedy="length")):
        raise example()
    for wrong in ({"name": "skin_A"}, {"value": 9}, {"allowed": ["30"]}, {"remedy": "energy"}):
        with pytest.raises(AssertionError):
            told(**wrong)(example())
    with pytest.raises(AssertionError, match="is not in"):
        told()(example(problem="it is 900"))


def test_problems_that_were_found_together_keep_their_attributes():
    problems = [example(), StructureError("no atoms", name="atoms"), example(problem="cutoff_A is 901")]
    error = together(RunError, [problems[0], together(ConfigError, problems[1:])])
    assert type(error) is RunError
    assert told(name="cutoff_A", value=900, remedy=True)(error)
    assert str(error).splitlines() == [str(problem) for problem in problems]
    assert vars(pickle.loads(pickle.dumps(error))).keys() == vars(error).keys()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(error.at("here")).startswith("here: cutoff_A is 900: give a length in Å\nno atoms")


def test_a_kind_is_changed_with_everything_that_was_said():
    error = example().as_kind(RunError)
    assert type(error) is RunError
    assert vars(error) == vars(example())
