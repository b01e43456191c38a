"""`metering usage export`: every usage record of a billing period, compared with the counters.

    read the counters → wait → write every record → read the counters again → compare → summary

Others can record usage meanwhile. So each sum must be between the counter's totals before and after. If these are
equal, so is the sum.
"""

import csv
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeAlias

from metering.http.models import UsageGetOutput
from metering.http.records import record_output
from metering.http.strict_json import compact
from metering.model.usage import RecordFilter, Usage
from metering.storage.usage_records import BUCKETS
from metering.usage.cursors import Position

from ops import usage_records
from ops.errors import CommandFailed

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Format: TypeAlias = Literal["csv", "jsonl"]

COLUMNS = tuple(UsageGetOutput.__annotations__)
# DynamoDB can show the items of one transaction shortly after each other. After this wait, each record is visible whose
# usage was in the first read of the counters.
_SETTLED_S = 1.0
# How often the counters are read again if they lack usage whose record is visible.
_MOST_READS = 5
PROGRESS_S = 5.0
# A spreadsheet takes a cell that starts with one of these as a formula. Source: OWASP, CSV Injection.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# No retention is shorter. After it, records can be missing.
_RETENTION_DAYS = 100


@dataclass
class Summary:
    """The exported usage, and its comparison with the counters."""

    organization: str
    billing_period: str
    records: Counter[str] = field(default_factory=Counter)
    """The number of records by feature."""
    quantities: Counter[str] = field(default_factory=Counter)
    """The sum of the quantities by feature."""
    differences: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The totals before and after the export, of each feature whose sum is not between them."""
    is_still: bool = True
    """Whether no counter changed during the export."""

    def add(self, usage: Usage) -> None:
        self.records[usage.feature] += 1
        self.quantities[usage.feature] += usage.quantity

    def compare(self, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """Compare the sums with the counters' totals before and after the export."""
        self.is_still = before == after
        self.differences = {
            feature: (before.get(feature, 0), after.get(feature, 0))
            for feature in sorted(self.quantities.keys() | before.keys() | after.keys())
            if not before.get(feature, 0) <= self.quantities[feature] <= after.get(feature, 0)
        }

    def content(self) -> dict[str, Any]:
        """The summary for a program."""
        verdict = "differ" if self.differences else "equal" if self.is_still else "within"
        usage = [
            {"feature": feature, "records": self.records[feature], "quantity": self.quantities[feature]}
            for feature in sorted(self.records)
        ]
        return {
            "organizationId": self.organization,
            "billingPeriod": self.billing_period,
            "records": self.records.total(),
            "usage": usage,
            "counters": verdict,
        }

    def text(self) -> str:
        """The summary for a person, without the differences."""
        sums = ", ".join(f"{feature} {self.quantities[feature]}" for feature in sorted(self.records)) or "no usage"
        number = self.records.total()
        lead = f"{number} record{'' if number == 1 else 's'} of {self.organization} in {self.billing_period}: {sums}."
        if self.differences:
            return lead
        held = (
            "The sums equal the counters."
            if self.is_still
            else (
                "Usage was recorded meanwhile. The sums are between the counters' totals before and after the export."
            )
        )
        return f"{lead} {held}"

    def complaints(self) -> list[str]:
        """The differences, one line each."""
        lines = [
            f"the records of {feature} add up to {self.quantities[feature]}, but the counter held "
            + (f"{before}." if before == after else f"{before} before and {after} after the export.")
            for feature, (before, after) in self.differences.items()
        ]
        age = datetime.now(UTC).date() - date.fromisoformat(f"{self.billing_period}-01")
        if lines and age.days >= _RETENTION_DAYS:
            lines.append("records expire after the retention time, 400 days by default, and are then missing here.")
        return lines


def export(
    dynamodb: "DynamoDBClient",
    table: str,
    organization: str,
    billing_period: str,
    form: Format,
    out: TextIO,
    sleep: Callable[[float], None] = time.sleep,
) -> Summary:
    """Write every record of the billing period to `out`, in JSONL with a last line for the summary.

    Raises: TableBusy; TableUnreadable.
    """
    summary = Summary(organization, billing_period)
    before = usage_records.totals(dynamodb, table, organization, billing_period)
    sleep(_SETTLED_S)
    write = _writer(form, out)
    progress = _Progress(summary)
    wanted = RecordFilter(billing_period)
    for usages in usage_records.listed(dynamodb, table, organization, wanted, progress.advance):
        for usage in usages:
            write(record_output(usage))
            summary.add(usage)
    for read in range(_MOST_READS):
        after = usage_records.totals(dynamodb, table, organization, billing_period)
        summary.compare(before, after)
        if all(summary.quantities[feature] <= total for feature, (_, total) in summary.differences.items()):
            break
        if read < _MOST_READS - 1:
            sleep(_SETTLED_S)
    if form == "jsonl":
        out.write(_line({"summary": summary.content()}))
    return summary


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Open a file that takes the place of `path` at the end of the block, complete and on the disk.

    After an error, `path` is as before. A killed process leaves a file `.<name>.…` in the same folder.

    Raises:
        CommandFailed: the file cannot be written, or `path` is not a file.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise CommandFailed(f"{path} is not a file: name a file, or omit --output and redirect standard output.")
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as failed:
        raise CommandFailed(f"cannot write to {path.parent}: {failed.strerror}.") from failed
    made = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
        _sync(path.parent)
    except OSError as failed:
        raise CommandFailed(f"cannot write {path}: {failed.strerror}.") from failed
    finally:
        made.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Write the folder's new entry to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _writer(form: Format, out: TextIO) -> Callable[[UsageGetOutput], object]:
    if form == "jsonl":
        return lambda record: out.write(_line(record))
    # All cells are quoted, because Python's csv module does not quote a carriage return for this line end.
    rows = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    rows.writerow(COLUMNS)
    return lambda record: rows.writerow(_cells(record))


def _line(content: Any) -> str:
    # ASCII, so that no output changes a character.
    return json.dumps(content, separators=(",", ":")) + "\n"


def _cells(record: UsageGetOutput) -> Sequence[str]:
    members: Mapping[str, Any] = {**record}
    return [_cell(members.get(name, "")) for name in COLUMNS]


def _cell(value: Any) -> str:
    text = compact(value) if isinstance(value, dict) else str(value)
    # With a quote before a quote, a reader gets each text back by removing one leading quote.
    return f"'{text}" if text.startswith((*_FORMULA, "'")) else text


class _Progress:
    """Tells a person at a terminal how far a long export is."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._next_s = time.monotonic() + PROGRESS_S

    def advance(self, position: Position | None) -> None:
        if position is None or not sys.stderr.isatty() or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + PROGRESS_S
        print(
            f"metering: {self._summary.records.total()} records, {100 * position.bucket // BUCKETS} % of the table.",
            file=sys.stderr,
        )
