"""`metering usage export`: complete files, and sums that are compared with the counters."""

import csv
import io
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from metering.storage.usage_records import usage_key

from ops import export
from ops.errors import CommandFailed, TableBusy, TableUnreadable
from ops.export import COLUMNS, Summary, replacing
from tests.testing.contention import answer_with, failed
from tests.testing.payloads import batch_request, example
from tests.testing.service import RecordFunction

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PERIOD = "2026-11"
COUNTER = {"pk": {"S": f"counter#demo-org#{PERIOD}"}, "sk": {"S": "api_calls#0"}}
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'=1"]


@pytest.fixture
def function(dynamodb: "DynamoDBClient") -> RecordFunction:
    return RecordFunction(dynamodb)


def _record(function: RecordFunction, *records: dict[str, Any]) -> None:
    assert function(batch_request(list(records))).body["totals"]["recorded"] == len(records)


def _export(client: "DynamoDBClient", form: export.Format = "jsonl", **how: Any) -> tuple[Summary, str]:
    out = io.StringIO(newline="")
    summary = export.export(client, "usage", "demo-org", PERIOD, form, out, **{"sleep": lambda _: None, **how})
    return summary, out.getvalue()


def _some(function: RecordFunction) -> None:
    _record(
        function,
        example(idempotencyKey="a", quantity=2, sourceId="request-7", metadata={"x": [1, "é"]}),
        example(idempotencyKey="b", quantity=3),
        example(idempotencyKey="c", feature="exports", quantity=10**9),
    )


def test_every_record_of_the_period_is_exported_with_its_sums(function: RecordFunction) -> None:
    _some(function)
    function.clock.pass_by(days=8)
    _record(function, example(idempotencyKey="of-december"))
    summary, text = _export(function.client)
    *records, last = map(json.loads, text.splitlines())
    assert sorted(record["idempotencyKey"] for record in records) == ["a", "b", "c"]
    assert next(each for each in records if each["idempotencyKey"] == "a")["metadata"] == {"x": [1, "é"]}
    assert last == {
        "summary": {
            "organizationId": "demo-org",
            "billingPeriod": PERIOD,
            "records": 3,
            "usage": [
                {"feature": "api_calls", "records": 2, "quantity": 5},
                {"feature": "exports", "records": 1, "quantity": 10**9},
            ],
            "counters": "equal",
        }
    }
    assert summary.text() == (
        "3 records of demo-org in 2026-11: api_calls 5, exports 1000000000. The sums equal the counters."
    )
    assert text.isascii()


def test_a_csv_has_the_members_of_usage_get_as_columns(function: RecordFunction) -> None:
    _some(function)
    _, text = _export(function.client, "csv")
    rows = {row["idempotencyKey"]: row for row in csv.DictReader(io.StringIO(text))}
    assert next(csv.reader(io.StringIO(text))) == list(COLUMNS)
    assert sorted(rows) == ["a", "b", "c"]
    assert rows["a"]["quantity"] == "2"
    assert json.loads(rows["a"]["metadata"]) == {"x": [1, "é"]}
    assert rows["b"]["metadata"] == rows["b"]["sourceId"] == ""


def test_a_csv_holds_no_formulas_and_no_other_text_is_changed(function: RecordFunction) -> None:
    texts = [*FORMULAS, "a=b", "1-1", "", 'a "quoted", text\nof two lines']
    _record(function, *(example(idempotencyKey=f"k{at}", sourceId=text) for at, text in enumerate(texts)))
    _record(function, *(example(idempotencyKey=f"{sign}k", sourceType=sign) for sign in "=+-@"))
    _, text = _export(function.client, "csv")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    # A reader gets each text back.
    by_key = {row["idempotencyKey"]: row["sourceId"] for row in rows}
    assert [by_key[f"k{at}"].removeprefix("'") for at in range(len(texts))] == texts
    assert {f"'{sign}k" for sign in "=+-@"} <= by_key.keys()


def test_an_export_of_nothing_equals_no_counters(function: RecordFunction) -> None:
    summary, text = _export(function.client, "csv")
    assert list(csv.reader(io.StringIO(text))) == [list(COLUMNS)]
    assert (summary.differences, summary.complaints()) == ({}, [])
    assert summary.text() == "0 records of demo-org in 2026-11: no usage. The sums equal the counters."


def test_usage_that_is_recorded_meanwhile_is_within_the_counters(function: RecordFunction) -> None:
    _some(function)
    recorded: list[str] = []

    def record(_: float) -> None:
        recorded.append(f"new-{len(recorded)}")
        _record(function, example(idempotencyKey=recorded[-1]))

    summary, text = _export(function.client, sleep=record)
    assert summary.differences == {}
    assert json.loads(text.splitlines()[-1])["summary"]["counters"] == "within"
    assert "are between the counters' totals" in summary.text()
    assert recorded == ["new-0"]


def _lose_a_record(function: RecordFunction) -> None:
    function.client.delete_item(TableName="usage", Key=usage_key("demo-org", "b"))


def _add_to_the_counter(function: RecordFunction, quantity: int) -> None:
    function.client.update_item(
        TableName="usage",
        Key=COUNTER,
        UpdateExpression="ADD #total :quantity",
        ExpressionAttributeNames={"#total": "total"},
        ExpressionAttributeValues={":quantity": {"N": str(quantity)}},
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_lose_a_record, "the records of api_calls add up to 2, but the counter held 5."),
        (lambda each: _add_to_the_counter(each, -1), "the records of api_calls add up to 5, but the counter held 4."),
        (lambda each: _add_to_the_counter(each, 1), "the records of api_calls add up to 5, but the counter held 6."),
    ],
)
def test_sums_that_differ_from_the_counters_are_named(
    function: RecordFunction, spoil: Callable[[RecordFunction], None], message: str
) -> None:
    _some(function)
    spoil(function)
    summary, text = _export(function.client)
    assert summary.complaints()[0] == message
    assert json.loads(text.splitlines()[-1])["summary"]["counters"] == "differ"
    assert "equal" not in summary.text()


def test_an_old_period_whose_records_expired_names_the_retention() -> None:
    summary = Summary("demo-org", "2024-01")
    summary.compare({"api_calls": 5}, {"api_calls": 5})
    assert [line[:20] for line in summary.complaints()] == ["the records of api_c", "records expire after"]


def test_counters_that_show_a_record_late_are_read_again(function: RecordFunction) -> None:
    _some(function)
    _add_to_the_counter(function, -1)
    waits: list[float] = []

    def show(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            _add_to_the_counter(function, 1)

    summary, _ = _export(function.client, sleep=show)
    assert summary.differences == {}
    assert len(waits) == 3


def test_a_busy_table_is_asked_again_and_then_named(function: RecordFunction, monkeypatch: pytest.MonkeyPatch) -> None:
    _some(function)
    answer_with(function.client, "Query", [failed("ThrottlingException")] * 2)
    summary, _ = _export(function.client)
    assert summary.records.total() == 3
    answer_with(function.client, "Query", [failed("ThrottlingException")] * 10_000)
    monkeypatch.setattr("ops.usage_records.PATIENCE_S", 0.1)
    with pytest.raises(TableBusy, match="run the command again later"):
        _export(function.client)


@pytest.mark.parametrize(
    "key", [usage_key("demo-org", "b"), {"pk": {"S": f"counter#demo-org#{PERIOD}"}, "sk": {"S": "api_calls#0"}}]
)
def test_an_item_that_cannot_be_read_is_no_gap(function: RecordFunction, key: Any) -> None:
    _some(function)
    function.client.update_item(
        TableName="usage",
        Key=key,
        UpdateExpression="SET quantity = :x, #total = :x",
        ExpressionAttributeNames={"#total": "total"},
        ExpressionAttributeValues={":x": {"S": "x"}},
    )
    with pytest.raises(TableUnreadable):
        _export(function.client)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_appears_complete(tmp_path: Path) -> None:
    path = tmp_path / "usage.csv"
    with replacing(path) as file:
        file.write("a\n")
        assert not path.exists()
    assert path.read_text() == "a\n"
    with replacing(path) as file:
        file.write("b\n")
        file.flush()
        assert path.read_text() == "a\n"
    assert path.read_text() == "b\n"
    # Only the operator can read the file, because metadata can be confidential.
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, CommandFailed])
def test_a_failed_export_leaves_the_file_as_it_was(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "usage.csv"
    path.write_text("before\n")

    def fail() -> None:
        with replacing(path) as file:
            file.write("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert path.read_text() == "before\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_still_leads_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    with replacing(tmp_path / "link.csv") as file:
        file.write("a\n")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "a\n"


@pytest.mark.parametrize("name", [".", "missing/usage.csv"])
def test_a_place_that_takes_no_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandFailed, match=f"{tmp_path}"), replacing(tmp_path / name):
        raise AssertionError


# --- progress --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_goes_to_a_terminal_only(
    function: RecordFunction, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    _some(function)
    monkeypatch.setattr("ops.export.PROGRESS_S", -1.0)
    monkeypatch.setattr("metering.usage.listing.MAX_EXAMINED", 1)
    errors = _Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", errors)
    _export(function.client)
    lines = errors.getvalue().splitlines()
    assert bool(lines) is is_terminal
    assert all(line.startswith("metering: ") and line.endswith(" % of the table.") for line in lines)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
