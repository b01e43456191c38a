"""The text of docs/cost.md."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from benchmarks.bill import Bill, Durations, Prices
from benchmarks.workloads import PUBLISHED_AT_ONCE, WATCHED_AT_ONCE, Work
from infra.environments import PROD

CROSS_CHECK = "## Cross-check"
_NAIVE = "naive handler, single records"
_MILLION = 1_000_000
_DAYS_PER_MONTH = 365.25 / 12


@dataclass(frozen=True)
class Bills:
    """By what was sent, in the tables' order."""

    sizes: Mapping[str, Bill]
    limits: Mapping[str, Bill]
    naive: Bill


def text(bills: Bills, prices: Prices, durations: Durations, stored_bytes: int) -> str:
    """All but the cross-check, which differs between engines."""
    rows = {**bills.sizes, _NAIVE: bills.naive}
    return _joined(
        "# What it costs",
        _paragraph(
            """Written by `python -m benchmarks.cost`: it runs the functions' real handlers, counts every call that they
            make at the wire, and works out from the items' sizes what DynamoDB bills. Prices and durations are inputs,
            named at the top of `benchmarks/cost.py` and listed below: put in your own and run it again."""
        ),
        "## Dollars per million records",
        _dollars(rows, prices),
        _paragraph(
            f"""A record is the contract's example, with a key of 36 characters; its organization has a plan with a soft
            limit. **Quiet**: each request is of another organization, which nobody has asked for in the last minute,
            and leads to deliveries of the stream for itself alone: the dearest that calm records come. **Busy**: one
            organization sends all the time, and so much is written that the stream's readers get as many records at
            once as they take, {PUBLISHED_AT_ONCE} for the publisher and {WATCHED_AT_ONCE} for the watcher. Its counter
            is one shard while that is enough, then eight, then further pages of eight, which an environment reads about
            once a second."""
        ),
        "## What that consists of",
        "In millions, for a million records; or for one record each. GB-seconds and GB: for a million.",
        _counts(rows),
        "## What a limit changes",
        _dollars(bills.limits, prices),
        _paragraph(
            """Single records, one shard. Where there is a plan, it is read, too: with the request unless it is
            remembered, and whenever the watcher looks at a changed counter, which it then sums up. A hard limit is a
            condition on the write that counts anyway: it costs nothing more."""
        ),
        "## What is cheaper, and why",
        _cheaper(bills, prices),
        "## Beside a naive handler",
        _naive(),
        "## Assumptions",
        _assumptions(prices, durations, stored_bytes),
    )


def cross_check(works: Mapping[str, Work]) -> str:
    """The last part."""
    rows = [
        [name, str(len(work.calls)), f"{work.write_units + work.read_units:g}", f"{work.reported_units:g}"]
        for name, work in works.items()
    ]
    return "\n" + _joined(
        CROSS_CHECK,
        _paragraph(
            """What the engine says that the record function's calls consumed (`ReturnConsumedCapacity`). It is an
            emulator: its figures check ours, and are not where they come from."""
        ),
        _table(["", "calls", "units counted here", "units that it reports"], rows),
    )


def _cheaper(bills: Bills, prices: Prices) -> str:
    write, units = prices.write_units, [each.write_units for each in bills.sizes.values()]
    return "\n".join(
        [
            _bullet(
                f"""**The floor** is the record's own put in a transaction, 2 write units, and its event:
                ${2 * write + prices.events:.2f} a million. Nothing that keeps record, count and event together goes
                below that."""
            ),
            _bullet(
                f"""**A batch** shares all the rest among its records: the request, the invocation and its log, the read
                of the total, and one update of each feature's counter in each transaction. A transaction takes 100
                items, so 100 records of one feature are two of them: {min(units):.3g} write units a record, where a
                single one takes {max(units):.3g}, however many shards the counter has."""
            ),
            _bullet(
                f"""**Each further KB** that a record begins, by its `metadata`, costs 2 more write units,
                ${2 * write:.2f} a million."""
            ),
            _bullet(
                """**A busy counter** costs no more writes than a calm one, and reads its pages once a second in each
                environment: with more pages than in the tables, more. Tries that meet another transaction are paid
                for, too, and are not in the tables: a tenth more tries is a tenth more for writes."""
            ),
            _bullet("""**A replay** is billed as many write units as a record, and has no event."""),
        ]
    )


def _naive() -> str:
    return _joined(
        _paragraph(
            """The tables' last row is `benchmarks/handlers/naive.py`: Powertools' idempotency utility around the
            handler, an `UpdateItem` that adds to one counter, `PutEvents` in the request. It is counted by the same
            means. Without transactions its writes cost half as much each, behind the stream it needs nothing, and it
            logs less. For that, it cannot promise"""
        ),
        "\n".join(
            [
                _bullet(
                    """**that usage counts once**: when it dies after the counter's update, or `PutEvents` fails, the
                    key is let go, and the retry adds a second time;"""
                ),
                _bullet(
                    """**that what was counted becomes an event**: when it dies before `PutEvents` and nobody retries,
                    there is none; nor is there one for an entry that the bus refuses in an answer of status 200;"""
                ),
                _bullet(
                    """**that it keeps up**: all usage of a feature meets in one item, which takes about 1,000 writes a
                    second;"""
                ),
                _bullet(
                    """**anything about organizations and limits**, which it does not read, or **what was counted**, of
                    which it keeps no record that could be asked for."""
                ),
            ]
        ),
    ).rstrip()


def _assumptions(prices: Prices, durations: Durations, stored_bytes: int) -> str:
    gb_months = stored_bytes * _MILLION / 1e9 * PROD.usage_retention_days / _DAYS_PER_MONTH
    kept = gb_months * (prices.table_gb_month + prices.backup_gb_month)
    return _joined(
        _paragraph(
            """**Prices** are list prices of US East (N. Virginia) in November 2026, on demand, first tier, without a
            free tier or discounts. They were written down from what is public about AWS's price pages: check them
            there."""
        ),
        _inputs("$", prices),
        _paragraph(
            f"""**Durations** are assumed, but for what says that it is measured (`benchmarks/results.json`, on another
            processor). An invocation takes the counted calls, one after the other but for the publisher's, and the
            processor time, at the share of a core that its memory gives it: {PROD.record_memory_mib} MiB for the record
            function and the naive one, {PROD.publisher_memory_mib} for the stream's readers."""
        ),
        _inputs("", durations),
        _paragraph(
            """**Billed units**: a write by the KB of the larger of its item before and after, twice in a transaction; a
            consistent read by 4 KB, a query by all that it reads together; an event by 64 KB; a request by 512 KB; each
            begun one counts. A cancelled transaction is counted in full."""
        ),
        _paragraph(
            """**Free**: Lambda's reading of the table's stream; DynamoDB's deletion of what has expired; the index of
            organizations, as usage is not in it; EventBridge's delivery within the account."""
        ),
        _paragraph(
            f"""**Not in the tables**: cold starts, metrics (billed by name and month), what goes out to the internet,
            what consumers do with the events, and storage. A stored record has {stored_bytes} bytes, DynamoDB's own
            100 included. A million of them for all their {PROD.usage_retention_days} days, with point-in-time recovery,
            come to ${kept:.2f}."""
        ),
    ).rstrip()


def _dollars(bills: Mapping[str, Bill], prices: Prices) -> str:
    by_component = {name: each.dollars(prices) for name, each in bills.items()}
    rows = [
        [name, f"**{sum(dollars.values()):.2f}**", *(f"{value:.2f}" for value in dollars.values())]
        for name, dollars in by_component.items()
    ]
    return _table(["", "in all", *next(iter(by_component.values()))], rows)


def _counts(bills: Mapping[str, Bill]) -> str:
    columns = {
        "HTTP requests": "http_requests",
        "invocations": "invocations",
        "DynamoDB requests": "dynamodb_requests",
        "write units": "write_units",
        "read units": "read_units",
        "PutEvents": "put_events",
        "events": "events",
    }
    rows = [
        [
            name,
            *(f"{getattr(each, column):.3g}" for column in columns.values()),
            f"{each.gb_s:,.0f}",
            f"{each.log_gb:.2f}",
        ]
        for name, each in bills.items()
    ]
    return _table(["", *columns, "GB-seconds", "GB of logs"], rows)


def _inputs(unit: str, values: Prices | Durations) -> str:
    rows = []
    for each in fields(values):
        digits = f"{getattr(values, each.name):.10f}".rstrip("0").rstrip(".")
        rows.append([f"`{each.name}`", unit + digits, each.metadata["for"]])
    return _table(["input", "value", "for"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *("---:" if head[0] != "input" else "---" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ruler, *rows))


def _joined(*parts: str) -> str:
    return "\n\n".join(parts) + "\n"


def _paragraph(words: str, width: int = 120) -> str:
    return textwrap.fill(" ".join(words.split()), width, break_long_words=False, break_on_hyphens=False)


def _bullet(words: str) -> str:
    return "- " + _paragraph(words, 118).replace("\n", "\n  ")
