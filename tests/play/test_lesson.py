"""A lesson goes to an address and back; points are the ones it names; texts are there in every language."""

import string

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dampen.errors import InputError
from dampen.play import POINTS
from dampen.play._lesson import CHOICES, QUANTITIES, Lesson, from_query
from dampen.play._paired import difference
from dampen.play._points import draw
from dampen.play._shell import read_query
from dampen.play._text import LANGUAGES, TEXTS, Text, language_of
from dampen.statistics import paired_difference


@st.composite
def lessons(draw):
    choices = {name: draw(st.sampled_from(allowed)) for name, allowed in CHOICES.items()}
    numbers = {name: draw(st.sampled_from(q.notches)) for name, q in QUANTITIES.items()}
    return Lesson(**choices, **numbers)


@settings(max_examples=50, deadline=None)
@given(lessons())
def test_a_lesson_that_is_written_into_an_address_is_read_from_it_again(lesson):
    assert from_query(lesson.query()) == (lesson, [])


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([*CHOICES, *QUANTITIES, "lang", "other"]), st.text(max_size=60)))
def test_whatever_an_address_says_a_lesson_within_its_ranges_is_read_and_what_is_not_used_is_told(query):
    lesson, notes = from_query(query)
    for name, quantity in QUANTITIES.items():
        assert quantity.low <= getattr(lesson, name) <= quantity.high
    assert all("\n" not in note or "\n" in "".join(query.values()) for note in notes)
    assert len(notes) <= len(query)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"dropout": "1.5"}, "dropout must be a number from 0 to 0.9, got 1.5: 0.1 is used"),
        ({"dropout": "nan"}, "dropout must be a number from 0 to 0.9, got nan: 0.1 is used"),
        ({"width": "1e9"}, "width must be a whole number from 1 to 64, got '1e9': 32 is used"),
        ({"n_seeds": "99999999999"}, "n_seeds must be a whole number from 2 to 16, got 99999999999: 8 is used"),
        (
            {"points": "<b>"},
            "points must be one of moons, circles, spiral, xor, blobs, curve, got '<b>': moons is used",
        ),
    ],
)
def test_a_value_outside_its_range_is_one_line_and_the_default_is_used(query, told):
    assert from_query(query) == (Lesson(), [told])


def test_a_lesson_outside_its_ranges_is_refused():
    with pytest.raises(InputError, match="depth must be a whole number from 1 to 4, got 9"):
        Lesson(depth=9)


def test_only_what_acts_at_once_lets_a_training_go_on():
    lesson = Lesson()
    assert lesson.trains_on(Lesson(dropout=0.5, lr=0.03, speed=10, surface="seeds"))
    assert not lesson.trains_on(Lesson(batch_size=8))
    assert not lesson.trains_on(Lesson(points="xor"))


def test_the_two_settings_differ_even_when_nothing_is_regularised():
    none, chosen = Lesson(weight_decay=0.0, dropout=0.0).settings
    assert none != chosen


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize(("n_points", "train_share"), [(20, 0.05), (20, 0.9), (200, 0.3)])
def test_points_are_as_many_as_the_lesson_says_alike_every_time_and_standardised(points, n_points, train_share):
    lesson = Lesson(points=points, n_points=n_points, train_share=train_share)
    found, again = draw(lesson), draw(lesson)
    assert torch.equal(found.inputs, again.inputs)
    assert torch.equal(found.test_targets, again.test_targets)
    assert len(found.inputs) + len(found.test_inputs) == n_points
    assert len(found.inputs) == max(2, round(train_share * n_points))
    torch.testing.assert_close(found.inputs.mean(0), torch.zeros(found.inputs.shape[1]), atol=1e-5, rtol=0)
    every = torch.cat([found.inputs, found.test_inputs])
    assert (every >= torch.tensor(found.low)).all()
    assert (every <= torch.tensor(found.high)).all()
    assert found.targets.is_floating_point() == (points == "curve")


def test_the_grid_runs_from_the_top_left_to_the_bottom_right():
    found = draw(Lesson())
    torch.testing.assert_close(found.grid[0], torch.tensor([found.low[0], found.high[1]]))
    torch.testing.assert_close(found.grid[-1], torch.tensor([found.high[0], found.low[1]]))


def test_the_difference_is_named_only_where_its_interval_excludes_zero():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(6, 2, 50))
    assert difference(noise).verdict == "same"
    assert difference(noise + np.array([[[1.0], [0.0]]])).verdict == "better"
    assert difference(noise + np.array([[[0.0], [1.0]]])).verdict == "worse"
    noise[0, 1, 0] = np.inf
    assert difference(noise).verdict == "unknown"


def test_the_difference_of_rows_that_do_not_differ_is_students_over_the_seeds():
    a, b = np.array([3.0, 4.0, 5.5]), np.array([1.0, 1.5, 1.0])
    found = difference(np.repeat(np.stack([a, b], 1)[:, :, None], 10, axis=2))
    expected = paired_difference(a, b)
    np.testing.assert_allclose([found.mean, found.low, found.high], [expected.mean, expected.low, expected.high])


def _places(text):
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


def test_every_text_is_there_in_every_language_with_the_same_places():
    for key, texts in TEXTS.items():
        assert texts.keys() == LANGUAGES.keys(), key
        assert all(texts.values()), key
        assert len({tuple(_places(text)) for text in texts.values()}) == 1, key


def test_every_choice_and_quantity_of_a_lesson_has_its_text():
    for name in (*CHOICES, *QUANTITIES):
        assert Text("zh")(f"lesson.{name}")
    for name, allowed in CHOICES.items():
        assert all(Text("en")(f"lesson.{name}.{one}") for one in allowed)


def test_the_language_is_the_one_that_is_asked_for_or_the_browsers():
    assert language_of("zh", "en") == "zh"
    assert language_of(None, "de, zh-CN;q=0.8") == "zh"
    assert language_of("<script>", "") == "en"


def test_an_address_is_told_what_no_page_can_use():
    given = [("token", "secret"), ("lang", "fr"), ("dark", "7"), ("x", "a"), ("x", "b"), ("<b>", "1"), ("y", "c")]
    query, notes = read_query(given, ("x", "y"))
    assert query == {"x": "b", "y": "c"}
    assert notes == [
        "lang must be one of en, zh, got 'fr': left out",
        "dark must be 0 or 1, got '7': left out",
        "x is given more than once: 'b' is used, not 'a'",
        "'<b>' is nothing that this page has: left out",
    ]
    assert read_query([("lang", "zh"), ("dark", "1")], ()) == ({"lang": "zh", "dark": "1"}, [])
