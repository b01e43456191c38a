import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from metering.model.names import FEATURE_PATTERN, PLAN_PATTERN
from metering.model.plans import Entitlement, Plan
from metering.model.usage import MAX_LIMIT

from ops import plan_file
from ops.errors import PlanFileWrong

EXAMPLE = Path(__file__).parents[3] / "docs" / "plans.example.yaml"
BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
SCHEMA = json.loads(plan_file.SCHEMA_FILE.read_text())

_texts = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters=BIDIRECTIONAL),
    min_size=1,
    max_size=64,
) | st.sampled_from(
    [
        "1",
        "1.0",
        "1e3",
        "1.5e+3",
        "null",
        "~",
        "true",
        "on",
        "0o7",
        "010",
        "1:30",
        "2026-11-23",
        "=",
        "<<",
        "- a",
        "a: b",
    ]
)
_features = st.builds(
    Entitlement,
    limit=st.none() | st.integers(0, MAX_LIMIT),
    unit=st.none() | _texts,
    hard=st.booleans(),
    warn_at=st.sets(st.integers(1, 99)).map(lambda found: tuple(sorted(found))),
    upgrade_url=st.none()
    | st.from_regex(r"https?://[a-z]{1,8}(:[0-9]{1,4})?/([!$&-;=?-Z_a-z~]|%[0-9A-F]{2}){0,30}", fullmatch=True),
)
_plans = st.builds(
    Plan,
    st.from_regex(PLAN_PATTERN, fullmatch=True),
    _texts,
    st.dictionaries(st.from_regex(FEATURE_PATTERN, fullmatch=True) | st.sampled_from(["on", "null", "y"]), _features),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "plans.yaml"


def _mistakes(file: Path, content: str | bytes) -> list[str]:
    """The mistakes in a file with this content, each with its line and its sentence."""
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(PlanFileWrong) as wrong:
        plan_file.read(file)
    return [line.removeprefix(f"{file}:") for line in str(wrong.value).splitlines()]


def _feature(members: str) -> str:
    return f"plans:\n  pro:\n    name: Pro\n    features:\n      api_calls:\n        {members}\n"


def test_the_example_is_read() -> None:
    free, pro = plan_file.read(EXAMPLE)
    assert (free.id, free.name, pro.id, pro.name) == ("free", "Free", "pro", "Professional")
    assert free.features["api_calls"] == Entitlement(1000, "calls", True, (50, 80, 95), "https://example.com/upgrade")
    assert pro.features["exports"] == Entitlement(limit=50, unit=None, hard=False, warn_at=(80,), upgrade_url=None)
    assert pro.features["storage_gb"].limit is None


def test_the_plan_schema_is_valid_and_agrees_on_names_and_limits() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    plan = SCHEMA["$defs"]["plan"]["properties"]
    assert SCHEMA["properties"]["plans"]["propertyNames"]["pattern"] == f"^{PLAN_PATTERN}$"
    assert plan["features"]["propertyNames"]["pattern"] == f"^{FEATURE_PATTERN}$"
    assert SCHEMA["$defs"]["feature"]["properties"]["limit"]["anyOf"][0]["maximum"] == MAX_LIMIT


@given(st.lists(_plans, max_size=3, unique_by=lambda plan: plan.id))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_shown_plans_can_be_read_as_a_plan_file(file: Path, plans: list[Plan]) -> None:
    file.write_text(plan_file.to_text(plans), encoding="utf-8")
    assert list(plan_file.read(file)) == sorted(plans, key=lambda plan: plan.id)


def test_percentages_are_kept_ascending(file: Path) -> None:
    file.write_text(_feature("{limit: 1, warnAt: [90, 5, 50]}"))
    assert plan_file.read(file)[0].features["api_calls"].warn_at == (5, 50, 90)


def test_names_are_what_is_written(file: Path) -> None:
    file.write_text("plans:\n  2024: {name: Off, features: {on: {limit: 0}, no: {limit: 1}}}\n")
    (plan,) = plan_file.read(file)
    assert (plan.id, plan.name, set(plan.features)) == ("2024", "Off", {"on", "no"})


@pytest.mark.parametrize(
    "limit",
    [
        *(
            "1.0",
            "1e3",
            "1.5",
            "true",
            "'5'",
            "-1",
            "010",
            "1_000",
            "1:30",
            "0x10",
            "+5",
            "9007199254740992",
            "9" * 200,
        ),
        *("9" * 200, "Unlimited", "none", "''", "~", "", "[5]", "{a: 5}", ".inf", "5 calls"),
    ],
)
def test_a_limit_is_a_whole_number_or_unlimited(file: Path, limit: str) -> None:
    (mistake,) = _mistakes(file, _feature(f"limit: {limit}"))
    assert mistake.startswith("6: plans.pro.features.api_calls.limit is ")
    assert "must be a whole number from 0 to 9007199254740991" in mistake


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ("unit: ''", "unit"),
        ("unit: 5", "unit"),
        ('unit: "a\\nb"', "unit"),
        ('unit: "\\e[31m"', "unit"),
        (f"unit: {'a' * 65}", "unit"),
        ("enforcement: Hard", "enforcement"),
        ("enforcement: true", "enforcement"),
        ("warnAt: 80", "warnAt"),
        ("warnAt: [80, 5, 80]", "warnAt"),
        ("warnAt: [0]", "warnAt.0"),
        ("warnAt: [50, 100]", "warnAt.1"),
        ("warnAt: [80.0]", "warnAt.0"),
        ("warnAt: [true]", "warnAt.0"),
        ("warnAt: ['80']", "warnAt.0"),
        ("upgradeUrl: example.com", "upgradeUrl"),
        ("upgradeUrl: 'ftp://example.com'", "upgradeUrl"),
        ("upgradeUrl: 'javascript:alert(1)//https://a.example'", "upgradeUrl"),
        ('upgradeUrl: "https://example.com\\n"', "upgradeUrl"),
        ("upgradeUrl: 'https://example.com/a b'", "upgradeUrl"),
        ("upgradeUrl: https://example.com/%zz", "upgradeUrl"),
        ("upgradeUrl: https://example.com/100%", "upgradeUrl"),
        ("upgradeUrl: 'https://example.com/<plan>'", "upgradeUrl"),
        ("upgradeUrl: 'https://example.com/#a#b'", "upgradeUrl"),
        ("upgradeUrl: 'https://example.com\\\\@a.example/'", "upgradeUrl"),
        (f"upgradeUrl: https://example.com/{'a' * 1024}", "upgradeUrl"),
        ("upgradeUrl:", "upgradeUrl"),
    ],
)
def test_an_invalid_member_is_a_mistake(file: Path, members: str, path: str) -> None:
    (mistake,) = _mistakes(file, _feature(f"limit: 1\n        {members}"))
    assert mistake.startswith(f"7: plans.pro.features.api_calls.{path} is ")
    assert ": it must be " in mistake


@pytest.mark.parametrize("character", BIDIRECTIONAL)
def test_bidirectional_controls_in_text_are_a_mistake(file: Path, character: str) -> None:
    content = (
        f"plans:\n  pro:\n    name: 'P{character}ro'\n    features:\n      a: {{limit: 1, unit: 'a{character}'}}\n"
    )
    name, unit = _mistakes(file, content)
    assert name.startswith("3: plans.pro.name is ")
    assert unit.startswith("5: plans.pro.features.a.unit is ")


def test_letters_of_all_directions_are_a_name(file: Path) -> None:
    name = "عربي עברית כל\u200cמה 👩\u200d🔬"
    file.write_text(f"plans: {{pro: {{name: {name}, features: {{}}}}}}", encoding="utf-8")
    assert plan_file.read(file)[0].name == name


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://a:99999/x", "invalid port number"),
        ("https://a:80:90/x", "invalid port number"),
        ("https://1.2.3.999/", "invalid IPv4 address"),
        ("https://4294967296/", "invalid IPv4 address"),
        ("https://xn--a/", "invalid international domain name"),
        ("https://a%20b/", "invalid international domain name"),
    ],
)
def test_a_url_that_clients_refuse_is_a_mistake_with_its_reason(file: Path, url: str, why: str) -> None:
    (mistake,) = _mistakes(file, _feature(f"limit: 1\n        upgradeUrl: {url}"))
    beginning, end = (
        f'7: plans.pro.features.api_calls.upgradeUrl is "{url}": it must be an http or https URL',
        f" ({why}).",
    )
    assert (mistake[: len(beginning)], mistake[-len(end) :]) == (beginning, end)


def test_a_url_that_breaks_its_pattern_and_its_type_is_one_mistake(file: Path) -> None:
    assert len(_mistakes(file, _feature("limit: 1\n        upgradeUrl: 'https://a[b'"))) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "https://example.com:8443/a/b;c?d=e&f=%20g#h",
        "https://xn--mnchen-3ya.example/",
        "https://127.0.0.1/~user/?q=(a)&r=%5B1%5D",
        f"https://example.com/{'a' * 1004}",
    ],
)
def test_a_url_is_kept_as_it_is_written(file: Path, url: str) -> None:
    file.write_text(_feature(f"limit: 1\n        upgradeUrl: '{url}'"))
    assert plan_file.read(file)[0].features["api_calls"].upgrade_url == url


@pytest.mark.parametrize(
    ("content", "mistakes"),
    [
        ("", ["1: the file is empty."]),
        ("# nothing\n", ["1: the file is empty."]),
        ("plans:\n", ["1: plans is empty: it must be a mapping from plan ids to plans."]),
        ("- a\n", ["1: the file is a list of 1: it must be a mapping with the member `plans`."]),
        ("{}", ["1: plans is missing."]),
        ("plans: {}\nplan: {}\n", ["2: plan is unknown: did you mean plans?"]),
        ("plans: {}\n---\nplans: {}\n", ["2: a second YAML document begins here: put all plans into the first."]),
        ("plans:\n  pro: {name: Pro\n", ["3: this is not YAML: expected ',' or '}', but got '<stream end>'. Check the indentation and the colons."]),  # noqa: E501
        ("plans:\n\tpro: 1\n", ["2: this is not YAML: found character '\\t' that cannot start any token. Check the indentation and the colons."]),  # noqa: E501
        ("plans: {}\na: \x07\n", ["2: YAML does not allow the character U+0007."]),
        (b"plans: {}\n# \xff\n", ["2: this is not UTF-8."]),
        ("plans: {}\n? [a]\n: 1\n", ["2: a name must be text."]),
        ('plans: {}\n"\\ud800": 1\n', ["2: '\\ud800' is unknown: expected plans."]),
        ('plans:\n  pro:\n    name: "\\ud800"\n    features: {}\n', ["3: this text has an unpaired surrogate (U+D800 to U+DFFF)."]),  # noqa: E501
        ("plans:\n  a b: {name: A, features: {}}\n", ["2: 'a b' is not a valid name: it must be 1 to 64 letters, digits, `_`, `.` or `-`, starting with a letter or digit."]),  # noqa: E501
        ("plans:\n  pro:\n    nmae: Pro\n    features: {}\n", ["2: plans.pro.name is missing.", "3: plans.pro.nmae is unknown: did you mean name?"]),  # noqa: E501
        ("plans:\n  pro: {name: A, features: {}}\n  free: {name: B, features: {}}\n  pro: 5\n", ["4: plans.pro is a duplicate: line 2 has it already."]),  # noqa: E501
        (_feature("limit: 1\n        limit: 2"), ["7: plans.pro.features.api_calls.limit is a duplicate: line 6 has it already."]),  # noqa: E501
        (_feature("limit: !!int '1'"), ["6: YAML tags (tag:yaml.org,2002:int) are not supported: remove the tag."]),
        (_feature("limit: *other"), ["6: YAML aliases (`*`) are not supported: write the value itself."]),
        ("a: &a [*a]\n", ["1: YAML aliases (`*`) are not supported: write the value itself.", "1: a is unknown: expected plans.", "1: plans is missing."]),  # noqa: E501
    ],
)  # fmt: skip
def test_every_mistake_has_its_line(file: Path, content: str | bytes, mistakes: list[str]) -> None:
    assert _mistakes(file, content) == mistakes


def test_all_mistakes_are_reported_at_once(file: Path) -> None:
    content = """\
plans:
  free:
    name: 5
    features:
      9lives: {limit: 1}
      exports: {limit: 1.0, warnAt: [80, 80]}
      exports: {}
  pro:
    features: []
extra: 1
"""
    mistakes = _mistakes(file, content)
    assert [(mistake.split(" ")[0], mistake.split(" ")[1]) for mistake in mistakes] == [
        ("3:", "plans.free.name"),
        ("5:", "'9lives'"),
        ("6:", "plans.free.features.exports.limit"),
        ("6:", "plans.free.features.exports.warnAt"),
        ("7:", "plans.free.features.exports"),
        ("8:", "plans.pro.name"),
        ("9:", "plans.pro.features"),
        ("10:", "extra"),
    ]


# To read the larger of these to the end would take hours.
@pytest.mark.parametrize(
    ("nesting", "line"),
    [
        pytest.param("[" * 2**20, 1, id="lists that never end"),
        pytest.param("plans: " + "[" * 5_000 + "]" * 5_000, 1, id="5,000 nested lists"),
        pytest.param("{a: " * 2**18, 1, id="mappings that never end"),
        pytest.param("a: {b: [" * 5_000 + "]}" * 5_000, 1, id="both in turn"),
        pytest.param("- " * 2**19 + "1", 1, id="lists in block style"),
        pytest.param("".join(f"{' ' * depth}a:\n" for depth in range(1_400)), 11, id="mappings in block style"),
        pytest.param("plans: {}\n? " + "[" * 2**19, 2, id="a name"),
        pytest.param("a: &a " + "[&b " * 2**18, 1, id="with anchors"),
    ],
)
def test_nothing_is_read_behind_nesting_that_is_too_deep(file: Path, nesting: str, line: int) -> None:
    assert _mistakes(file, nesting)[-1] == f"{line}: this is nested deeper than 10 levels."


def test_percentages_that_have_no_order_are_not_compared_each_with_each(file: Path) -> None:
    # To compare all pairs of them would take ten minutes.
    warn_at = ", ".join(f"{{a: {number}}}" for number in range(30_000))
    mistakes = _mistakes(file, _feature(f"limit: 1\n        warnAt: [{warn_at}]"))
    assert len(mistakes) == 30_000


def test_nested_yaml_aliases_are_not_expanded(file: Path) -> None:
    laughs = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))
    assert len(_mistakes(file, laughs)) > 29


def test_more_features_than_an_item_holds_are_a_mistake(file: Path) -> None:
    features = "".join(f"\n      f{number}: {{limit: 1}}" for number in range(201))
    (mistake,) = _mistakes(file, f"plans:\n  pro:\n    name: Pro\n    features:{features}\n")
    assert mistake.startswith("4: plans.pro.features is a mapping: it must be a mapping from at most 200 ")


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PlanFileWrong, match="No such file"):
        plan_file.read(tmp_path / "none.yaml")
