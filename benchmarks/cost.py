"""The cost of a million records, computed from counted calls, billed units and list prices.

python -m benchmarks.cost     writes docs/cost.md
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metering.storage.counter_items import SHARDS_PER_PAGE

from benchmarks import cost_document, workloads
from benchmarks.bill import Durations, Prices, bill
from benchmarks.cost_document import Bills
from benchmarks.workloads import Limit, Workload
from tests.testing import engine
from tests.testing.engine import Engine
from tools import output

# AWS's list prices of US East (N. Virginia), on demand, first tier, November 2026. Enter your own.
PRICES = Prices(
    write_units=0.625,
    read_units=0.125,
    table_gb_month=0.25,
    backup_gb_month=0.20,
    lambda_requests=0.20,
    lambda_gb_s=0.0000133334,
    http_requests=1.00,
    events=1.00,
    log_gb=0.50,
)
# Assumptions. `durations` replaces `record_cpu_ms` by the measured value, if benchmarks/results.json exists.
DURATIONS = Durations(
    get_item_ms=4.0,
    query_ms=4.0,
    put_item_ms=6.0,
    update_item_ms=6.0,
    transaction_ms=10.0,
    transactional_read_ms=8.0,
    further_item_ms=0.2,
    put_events_ms=15.0,
    record_cpu_ms=2.5,
    reader_cpu_ms=1.5,
    further_record_cpu_ms=0.1,
    published_at_once=16,
    # Source: Lambda developer guide, "Configure Lambda function memory".
    full_core_mib=1769,
)
# Requests per second that one environment gets for one counter. It serves one at a time, so this is about its maximum.
_REQUESTS_PER_S = {1: 20.0, 10: 15.0, 100: 5.0}

_SIZES = {1: "single records", 10: "batches of 10", 100: "batches of 100"}
_WIDTHS = {1: "busy, one shard", 8: "busy, one page (8 shards)", 128: "busy, 16 pages (128 shards)"}
_LIMITS: dict[Limit, str] = {"none": "no limit", "soft": "a soft limit", "hard": "a hard limit"}

DOCUMENT = Path(__file__).parent.parent / "docs" / "cost.md"
_RESULTS = Path(__file__).parent / "results.json"


@dataclass(frozen=True)
class Case:
    """A row of a table."""

    name: str
    workload: Workload


def _cases() -> Iterator[Case]:
    for size, what in _SIZES.items():
        yield Case(f"{what}, quiet", Workload(size, is_quiet=True, requests=3))
        for shards, width in _WIDTHS.items():
            yield Case(f"{what}, {width}", _busy(size, shards=shards))


def _limit_cases() -> Iterator[Case]:
    for limit, what in _LIMITS.items():
        yield Case(f"{what}, quiet", Workload(is_quiet=True, limit=limit, requests=3))
        yield Case(f"{what}, busy", _busy(1, limit=limit))


def _busy(size: int, *, shards: int = 1, limit: Limit = "soft") -> Workload:
    per_s = _REQUESTS_PER_S[size]
    # Several pages are read about once a second, so the average needs some seconds.
    lasts_s = 1 if shards <= SHARDS_PER_PAGE else 3
    return Workload(size, requests_per_s=per_s, shards=shards, limit=limit, requests=int(per_s * lasts_s))


CASES = tuple(_cases())
LIMIT_CASES = tuple(_limit_cases())


def document(running: Engine) -> str:
    """Render docs/cost.md, with all cases counted on the engine `running`."""
    assumed = durations()
    sizes = {case.name: workloads.run(case.workload, running) for case in CASES}
    limits = {case.name: workloads.run(case.workload, running) for case in LIMIT_CASES}
    bills = Bills(
        sizes={name: bill(counted, assumed) for name, counted in sizes.items()},
        limits={name: bill(counted, assumed) for name, counted in limits.items()},
        naive=bill(workloads.run_naively(20, running), assumed),
    )
    text = cost_document.text(bills, PRICES, assumed, workloads.stored_bytes(running))
    return text + cost_document.cross_check({name: counted.recording for name, counted in sizes.items()})


def durations() -> Durations:
    """The assumed durations, with the measured CPU time if there is one."""
    if not _RESULTS.exists():
        return DURATIONS
    results: dict[str, Any] = json.loads(_RESULTS.read_text("utf-8"))
    measured_ms = results["warm CPU per request, against the two bare botocore calls"]["record_ms"]["median"]
    # Rounded to half a millisecond, so that a new measurement seldom changes docs/cost.md.
    return replace(DURATIONS, record_cpu_ms=round(2 * measured_ms) / 2)


def run() -> None:
    """Write docs/cost.md."""
    with tempfile.TemporaryDirectory() as scratch, engine.running(Path(scratch)) as running:
        DOCUMENT.write_text(document(running), "utf-8")


@output.command("cost", works=True)
def main() -> int:
    run()
    print(f"cost: wrote {DOCUMENT.relative_to(Path.cwd())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
