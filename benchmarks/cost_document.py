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
    """Bills by name of the case, in the tables' order."""

    sizes: Mapping[str, Bill]
    limits: Mapping[str, Bill]
    naive: Bill


def text(bills: Bills, prices: Prices, durations: Durations, stored_bytes: int) -> str:
    """Everything but the cross-check, which differs between engines."""
    rows = {**bills.sizes, _NAIVE: bills.naive}
    return _joined(
        "# Cost",
        _paragraph(
            """`python -m benchmarks.cost` writes this page. It runs the functions' real handlers and counts every call
            on the wire. From the items' sizes, it computes the units that DynamoDB bills. Prices and durations are
            inputs at the top of `benchmarks/cost.py`, listed under [Assumptions](#assumptions). Enter your own and run
            it again."""
        ),
        "## Dollars per million records",
        _dollars(rows, prices),
        _paragraph(
            """A record is the contract's example, with a key of 36 characters. Its organization has a plan with a soft
            limit."""
        ),
        "\n".join(
            [
                _bullet(
                    """**Quiet**: each request comes from another organization, which the execution environment has not
                    read in the last minute. Lambda delivers the changes of each request separately. Without retries, no
                    record of this size costs more."""
                ),
                _bullet(
                    f"""**Busy**: one organization sends all the time. So much is written that each delivery of the
                    stream is full: {PUBLISHED_AT_ONCE} records for the publisher and {WATCHED_AT_ONCE} for the
                    watcher."""
                ),
                _bullet(
                    """**Shards**: a counter has one shard while that is enough, then a page of eight, then further
                    pages of eight. If it has one page, each request reads it. If it has several, each execution
                    environment reads them about once a second."""
                ),
            ]
        ),
        "## Quantities",
        "In millions for a million records, which is the same as per record. GB-seconds and GB are for a million.",
        _counts(rows),
        "## Effect of a limit",
        _dollars(bills.limits, prices),
        _paragraph(
            """These are single records on one shard. A plan adds reads. The request reads the plan, unless the
            execution environment remembers it. The watcher reads the plan for each changed counter, and then sums that
            counter. A hard limit adds nothing, because it is a condition on a write that happens anyway."""
        ),
        "## Price factors",
        _cheaper(bills, prices),
        "## Comparison with a naive handler",
        _naive(),
        "## Assumptions",
        _assumptions(prices, durations, stored_bytes),
    )


def cross_check(works: Mapping[str, Work]) -> str:
    """The last section, which depends on the engine."""
    rows = [
        [name, str(len(work.calls)), f"{work.write_units + work.read_units:g}", f"{work.reported_units:g}"]
        for name, work in works.items()
    ]
    return "\n" + _joined(
        CROSS_CHECK,
        _paragraph(
            """The engine reports the units that the record function's calls consumed (`ReturnConsumedCapacity`). The
            engine is an emulator, so its figures only check ours."""
        ),
        _table(["", "calls", "units counted here", "units reported by the engine"], rows),
    )


def _cheaper(bills: Bills, prices: Prices) -> str:
    write, units = prices.write_units, [each.write_units for each in bills.sizes.values()]
    return "\n".join(
        [
            _bullet(
                f"""**The minimum** is ${2 * write + prices.events:.2f} per million: 2 write units for the record's own
                put in a transaction, and one event. No design that keeps record, count and event together costs
                less."""
            ),
            _bullet(
                f"""**A batch** shares all other costs among its records. These are the request, the invocation and its
                log, and the read of the total. Each transaction also shares one update of each feature's counter. A
                transaction
                holds 100 items, so 100 records of one feature need two transactions. Each record then takes
                {min(units):.3g} write units instead of {max(units):.3g}, for any number of shards."""
            ),
            _bullet(
                f"""**Large `metadata`** costs 2 more write units for each further KB that the record begins:
                ${2 * write:.2f} per million."""
            ),
            _bullet(
                """**A busy counter** costs no more writes than a calm one. Each execution environment reads all its
                pages once a second, so more pages than in the tables cost more reads. AWS also bills tries that meet
                another transaction, which the tables leave out. A tenth more tries adds a tenth to the cost of
                writes."""
            ),
            _bullet("""**A replay** costs as many write units as a record. It publishes no event."""),
            _bullet(
                f"""**A counter's first record** in a billing period costs one more write unit. It pays for the entry
                in the index `lists`: ${write:.3f} per million counters. A new organization costs the same, once."""
            ),
        ]
    )


def _naive() -> str:
    return _joined(
        _paragraph(
            """The row of the naive handler is `benchmarks/handlers/naive.py`, counted by the same means. Powertools'
            idempotency utility wraps the handler, an `UpdateItem` adds to one counter, and the request calls
            `PutEvents`. The naive handler's writes cost half as much each, because they are not transactional. It
            needs no readers of the stream, and it logs less. In return, it lacks these promises:"""
        ),
        "\n".join(
            [
                _bullet(
                    """**Usage counts once.** The handler can die after the counter's update, or `PutEvents` can fail.
                    The layer then releases the key, and the retry adds a second time."""
                ),
                _bullet(
                    """**Counted usage becomes an event.** If the handler dies before `PutEvents` and nobody retries,
                    there is no event. There is also none if the bus refuses the entry in an answer of status 200."""
                ),
                _bullet(
                    """**Busy counters keep up.** All usage of a feature meets in one item, which takes about 1,000
                    writes per second."""
                ),
                _bullet("""**Organizations and limits apply.** The handler reads neither."""),
                _bullet(
                    """**Counted usage can be looked up.** The handler keeps no record that a query could return."""
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
            free tier or discounts. They come from public information about AWS's price pages. Check them there."""
        ),
        _inputs("$", prices),
        _paragraph(
            f"""**Durations** are assumptions, except for the one marked as measured (`benchmarks/results.json`, on
            another processor). An invocation lasts as long as its calls and its CPU time together. Calls run one after
            the other, except the publisher's. The function's memory decides its share of a core. The record
            function and the naive one have {PROD.record_memory_mib} MiB, and the stream's readers have
            {PROD.publisher_memory_mib}."""
        ),
        _inputs("", durations),
        _paragraph(
            """**Billed units** are rounded up. A write counts each KB of its item, before or after the write, whichever
            is larger. A write in a transaction counts twice. A consistent read counts each 4 KB, and a query counts
            each 4 KB of everything that it reads. An event counts each 64 KB, and a request each 512 KB. A cancelled
            transaction counts in full."""
        ),
        _paragraph(
            """**Free** are Lambda's reads of the table's stream, DynamoDB's deletion of expired items, and
            EventBridge's delivery within the account. The index of organizations by their
            plans costs nothing, because it contains no usage."""
        ),
        _paragraph(
            f"""**The tables leave out** cold starts and metrics (billed by name and month). They also leave out traffic
            to the internet, the consumers of the events, and storage. A stored record has {stored_bytes} bytes,
            including DynamoDB's own 100. Storing a million records for {PROD.usage_retention_days} days, with
            point-in-time recovery, costs ${kept:.2f}."""
        ),
    ).rstrip()


def _dollars(bills: Mapping[str, Bill], prices: Prices) -> str:
    by_component = {name: each.dollars(prices) for name, each in bills.items()}
    rows = [
        [name, f"**{sum(dollars.values()):.2f}**", *(f"{value:.2f}" for value in dollars.values())]
        for name, dollars in by_component.items()
    ]
    return _table(["", "total", *next(iter(by_component.values()))], rows)


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
