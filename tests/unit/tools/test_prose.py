from pathlib import Path

import pytest

from tools import prose

_LONG = "The publisher sends one event for each record to the bus, and " + "it tries again " * 3


@pytest.mark.parametrize(
    ("sentence", "rule"),
    [
        ("Who begins the counter decides.", "opens without a noun as its subject"),
        ("**What is stored** stays.", "opens without a noun as its subject"),
        ("The caller is told.", "has the word 'told'"),
        ("There is no such plan.", "has the word 'such plan'"),
        ("Two rules: one: two.", "has more than one colon"),
        (_LONG, "has 21 words, more than 20"),
    ],
)
def test_a_sentence_that_breaks_a_rule_is_found(sentence: str, rule: str) -> None:
    assert list(prose.broken_rules(sentence)) == [rule]


@pytest.mark.parametrize(
    "sentence",
    [
        "What happens after a crash?",
        "Plans, such as `free`, have limits.",
        "The caller sends a key: a retry counts once.",
        "At 10:30 UTC the period ends: http://example.com shows it.",
    ],
)
def test_a_sentence_that_breaks_no_rule_passes(sentence: str) -> None:
    assert list(prose.broken_rules(sentence)) == []


def test_code_does_not_count() -> None:
    (sentence,) = prose.sentences("The answer is `{what: told: 1}` or {a: b: c} for [the caller](told.md).")
    assert sentence == "The answer is `x` or `x` for the caller."
    assert list(prose.broken_rules(sentence)) == []


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("page.md", "# Title\n\nA sentence. The caller is told.\n", 3),
        ("page.md", "| a | b |\n|---|---|\n| c | The caller is told. |\n", 3),
        ("page.md", "- One.\n- The caller is\n  told.\n", 2),
        (
            "module.py",
            '"""A module."""\n\n\ndef f():\n    """Promise.\n\n    Raises: the caller is told.\n    """\n',
            5,
        ),
        ("module.py", "x = 1\n# The caller\n# is told.\n", 2),
        ("module.py", "x = 1  # the caller is told\n", 1),
        ("module.py", 'raise ValueError(f"the caller {x} is told: stop.")\n', 1),
        ("schema.json", '{"properties": {"a": {"description": "The caller is told."}}}', 1),
        ("Makefile", "run: setup ## The caller is told\n", 1),
        ("schema.json", '{"$comment": "The caller is told."}', 1),
        ("module.py", 'print("caller is told")\n', 1),
        ("settings.toml", "a = 1 # the caller is told\n", 1),
        ("run", "#!/bin/sh\n# The caller\n# is told.\n", 2),
        (".cfnlintrc", "# The caller is told.\nignore_checks: []\n", 1),
        (".gitignore", "/build/\n# The caller is told.\n", 2),
    ],
)
def test_prose_is_found_in_every_kind_of_file(tmp_path: Path, name: str, content: str, line: int) -> None:
    (tmp_path / name).write_text(content)
    (finding,) = prose.findings(tmp_path / name)
    assert (finding.line, finding.rule) == (line, "has the word 'told'")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("page.md", "```sh\n# the caller is told\n```\n"),
        ("module.py", "what = told(1)  # noqa: S603 - it is ours\n"),
        ("module.py", 'pattern = "^told$"\n'),
        ("module.py", 'line = "the caller\\tis told this"\n'),
        ("data.txt", "The caller is told.\n"),
    ],
)
def test_code_and_data_are_no_prose(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert list(prose.findings(tmp_path / name)) == []


def test_strings_of_tests_are_data(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text('assert error == "the caller is told"\n')
    assert list(prose.findings(tmp_path / "tests" / "test_it.py")) == []


def test_the_command_prints_each_finding_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("The caller is told.\n")
    assert prose.main([str(page)]) == 1
    assert capsys.readouterr().out == f"{page}:1: has the word 'told': The caller is told.\n"
    page.write_text("The caller gets an answer.\n")
    assert prose.main([str(page)]) == 0
    assert capsys.readouterr().out == ""
