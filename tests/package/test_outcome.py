"""One vocabulary of outcome, and the words of earlier versions."""

import ast
from itertools import permutations
from pathlib import Path
from typing import get_args

import pytest
from places import ROOT
from pydantic import ValidationError

from asecalc_ml.analysis.base import Verdict
from asecalc_ml.analysis.comparing.comparison import Distance
from asecalc_ml.outcome import BY_GRAVITY, COLOURS, FORMER, MARKS, OUTCOMES, Outcome, current_word, gravest

ROOMS = ("asecalc_ml", "analysis", "md_protocols", "potentials")


def test_every_outcome_has_a_mark_a_colour_and_a_place():
    for words in (MARKS, COLOURS, BY_GRAVITY):
        assert set(words) == set(OUTCOMES) == set(get_args(Outcome))


@pytest.mark.parametrize(
    ("former", "word"),
    [
        ("pass", "passed"),
        ("fail", "failed"),
        ("unclear", "undecided"),
        ("not decided", "undecided"),
        ("n.a.", "not applicable"),
    ],
)
def test_former_words_are_translated(former, word):
    assert current_word(former) == word
    assert Verdict(check="a", status=former, text="1").status == word


@pytest.mark.parametrize("word", [*OUTCOMES, "something else", None, 1.0])
def test_other_words_stay(word):
    assert current_word(word) == word


def test_the_gravest_outcome_does_not_depend_on_the_order():
    for n in range(1, len(BY_GRAVITY) + 1):
        for order in permutations(BY_GRAVITY[:n]):
            assert gravest(order) == BY_GRAVITY[n - 1]
    assert gravest([]) == "not applicable"


@pytest.mark.parametrize(
    ("distance", "noise", "small_errors", "agreement", "former"),
    [
        (1.0, 2.0, [], "passed", "not seen"),
        (1.0, 2.0, ["a"], "passed", "not seen"),
        (3.0, 2.0, [], "failed", "yes"),
        (3.0, 2.0, ["a"], "undecided", "undecided"),
        (3.0, None, [], "undecided", "too short"),
    ],
)
def test_agreement_of_distributions(distance, noise, small_errors, agreement, former):
    """Also in files of before, which do not hold it; what is written holds it."""
    fields = {"first": "a", "second": "b", "low": None, "high": None, "kolmogorov": 0.5}
    compared = Distance(**fields, distance=distance, noise=noise, small_errors=small_errors)
    assert compared.agreement == agreement
    assert f'"agreement":"{agreement}"' in compared.model_dump_json()
    assert Distance.model_validate_json(compared.model_dump_json()) == compared
    with pytest.warns(DeprecationWarning, match="agreement"):
        assert compared.differs == former


@pytest.mark.parametrize("damage", [{"distance": "far"}, {"noise": []}, {"distance": None}])
def test_a_damaged_distance_is_refused_by_name(damage):
    fields = {"first": "a", "second": "b", "low": None, "high": None, "kolmogorov": 0.5}
    with pytest.raises(ValidationError, match=next(iter(damage))):
        Distance.model_validate(fields | {"distance": 1.0, "noise": 2.0} | damage)


def test_no_module_of_the_package_uses_a_former_word():
    paths = [path for room in ROOMS for path in Path(ROOT, room).rglob("*.py") if path.name != "outcome.py"]
    used = [
        (str(path), node.lineno, node.value)
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in FORMER
    ]
    assert not used
