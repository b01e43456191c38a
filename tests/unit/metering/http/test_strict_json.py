import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metering.http import strict_json
from metering.model.errors import BadRequest, InputInvalid

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("{} {}", "not JSON"),
        ("{'a':1}", "not JSON"),
        ('{"a":1,}', "not JSON"),
        ('{"a":01}', "not JSON"),
        ("\ufeff{}", "not JSON"),
        ('{"a":"\x00"}', "not JSON"),
        ("[]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("[" * 100_000, "must be a JSON object"),
        ('"a"', "must be a JSON object"),
        ("1", "must be a JSON object"),
        ('{"a":NaN}', "NaN"),
        ('{"a":Infinity}', "Infinity"),
        ('{"a":-Infinity}', "-Infinity"),
        ('{"a":1e999}', "Infinity"),
        ('{"a":1,"a":1}', '"a" twice'),
        ('{"m":{"b":1,"c":2,"b":3}}', '"b" twice'),
        ('{"a":1,"\\u0061":2}', '"a" twice'),
        ('{"a":"\\ud800"}', "surrogate"),
        ('{"\\uDC00":1}', "surrogate"),
    ],
)
def test_ambiguous_json_is_a_bad_request(text: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        strict_json.parse_object(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [('{"a":' * 100_000, "nested_too_deep"), (f'{{"a":{"1" * 4301}}}', "number_too_long")],
)
def test_json_too_deep_or_too_long_for_any_model_is_invalid_before_it_is_parsed(text: str, code: str) -> None:
    with pytest.raises(InputInvalid) as refused:
        strict_json.parse_object(text)
    assert [issue.code for issue in refused.value.issues] == [code]


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert strict_json.parse_object('{"a":"\\ud83d\\ude00"}') == {"a": "😀"}


def test_a_number_keeps_its_kind() -> None:
    assert [type(value) for value in strict_json.parse_object('{"a":1,"b":1.0,"c":1e0}').values()] == [
        int,
        float,
        float,
    ]


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_json_is_parsed_as_python_parses_it(value: dict[str, object]) -> None:
    assert strict_json.parse_object(json.dumps(value)) == value


@given(st.dictionaries(st.text(), JSON, max_size=5), st.randoms())
def test_the_order_of_members_does_not_change_the_fingerprint(value: dict[str, object], random: Random) -> None:
    assert strict_json.fingerprint(_shuffled(value, random)) == strict_json.fingerprint(value)


def test_other_content_has_another_fingerprint() -> None:
    contents: list[dict[str, Any]] = [{}, {"a": 1}, {"a": 2}, {"a": 1.5}, {"a": "1"}, {"a": None}, {"b": 1}]
    contents += [{"a": [1, 2]}, {"a": [2, 1]}]
    prints = {strict_json.fingerprint(content) for content in contents}
    assert len(prints) == 9


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("100", "1e2"),
        ("100", "1E+2"),
        ("0", "-0.0"),
        ("-0", "0e5"),
        ("1.5", "15e-1"),
        ("9007199254740992", "9007199254740992.0"),
        ('[{"b":5}]', '[{"b":5.0}]'),
    ],
)
def test_the_spelling_of_a_number_does_not_change_the_fingerprint(one: str, other: str) -> None:
    assert _print(one) == _print(other)


def test_other_values_have_another_fingerprint() -> None:
    # Some of these are equal in Python, and some writers of JSON turn one into another.
    texts = [
        "true", "false", "null", "1", "0", "-1", "1.5", "1.0000000000000002", '"1"', '"true"', '""', "[]", "{}", "[1]",
        "[true]", "[null]", "[[1]]", '{"a":true}', '{"a":1}', '{"a":null}', '{"A":1}', '"a"', '"A"', '"\\u00e9"',
        '"e\\u0301"', "9007199254740992", "9007199254740993", "1" + "0" * 40, "1" + "0" * 39 + "1",
    ]  # fmt: skip
    prints = {text: _print(text) for text in texts}
    assert len(set(prints.values())) == len(texts), prints


def test_large_integers_have_different_fingerprints() -> None:
    assert strict_json.fingerprint({"a": 2**53}) != strict_json.fingerprint({"a": 2**53 + 1})


def test_the_fingerprint_of_a_release_is_the_fingerprint_of_the_next() -> None:
    # Stored records keep this fingerprint. Another value would turn every retry across a deployment into a conflict.
    released = "1:30943d37c19ead4869676cc084026d1b744ce0e357af2672451548aef8c7d025"
    assert strict_json.fingerprint({"quantity": 1, "feature": "api_calls"}) == released


@given(JSON)
def test_depth_counts_objects_and_arrays(value: object) -> None:
    assert strict_json.depth([value]) == strict_json.depth(value) + 1


def test_depth_needs_no_stack() -> None:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    assert strict_json.depth(value) == 100_000


def _print(text: str) -> str:
    return strict_json.fingerprint(strict_json.parse_object(f'{{"a":{text}}}'))


def _shuffled(value: Any, random: Random) -> Any:
    if isinstance(value, dict):
        names = list(value)
        random.shuffle(names)
        return {name: _shuffled(value[name], random) for name in names}
    if isinstance(value, list):
        return [_shuffled(item, random) for item in value]
    return value
