from __future__ import annotations

import inspect

import pytest
import torch

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.errors import UserError
from proxylesskd.losses.margin import ArcFace
from proxylesskd.methods.catalogue import CATALOGUE, RESOURCES, Resources, expand, make_terms, wants
from proxylesskd.methods.method import NEEDS

SHAPES = ((4, 8, 8), (6, 4, 4))


def resources(**changes: object) -> Resources:
    torch.manual_seed(0)
    classifier = InheritedClassifier(torch.randn(9, 6), [str(i) for i in range(9)], {})
    given: dict[str, object] = {
        "num_identities": 9,
        "dim": 6,
        "seed": 0,
        "images": 40,
        "margin": lambda: ArcFace(0.3),
        "scale": 16.0,
        "classifier": classifier,
        "teacher_dim": 6,
        "student_shapes": SHAPES,
        "teacher_shapes": SHAPES,
    }
    return Resources(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_entry_can_be_made_and_says_what_it_is(name: str) -> None:
    entry = CATALOGUE[name]
    summands = expand(name)
    assert name in [summand.name for summand in summands]
    terms = make_terms(summands, resources())
    assert [term.name for term in terms] == [summand.name for summand in summands]
    assert entry.needs <= NEEDS
    assert all(term.method.needs <= NEEDS for term in terms)
    assert entry.weight > 0
    assert entry.title
    assert any(word in entry.paper for word in ("19", "20"))
    assert entry.made.__module__.endswith(entry.place.partition(":")[0])
    for option in entry.options:  # what users may set has the paper's value
        assert inspect.signature(entry.made).parameters[option].default is not inspect.Parameter.empty, option


def test_sums_take_weights_options_and_distinct_names() -> None:
    terms = make_terms(expand("proxyless + 2*alone + alone"), resources())
    assert [(term.name, term.weight) for term in terms] == [("proxyless", 1.0), ("alone", 2.0), ("alone-2", 1.0)]
    assert wants(expand("proxyless + alone")) == {"classifier"}
    assert wants(expand("alone")) == frozenset()


def test_each_method_gets_a_margin_of_its_own() -> None:
    made: list[ArcFace] = []

    def margin() -> ArcFace:
        made.append(ArcFace(0.1 * (len(made) + 1)))
        return made[-1]

    terms = make_terms(expand("proxyless + alone"), resources(margin=margin))
    assert [term.method.margin for term in terms] == made  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "said"),
    [("proxlyess", "did you mean 'proxyless'"), ("proxyless(sacle=3)", "option of proxyless, found 'sacle'")],
)
def test_misspelled_names_are_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        expand(text)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UserError, match=r"method\.classifier"):
        make_terms(expand("proxyless"), resources(classifier=None))


def test_resources_are_no_options() -> None:
    assert "scale" in RESOURCES
    assert "scale" not in CATALOGUE["alone"].options
