"""The simulated cases, and their results in docs/scale.md and docs/scale.png."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.scale.beginnings import Beginning, Begun
from benchmarks.scale.cases import Case, Outcome, Part, percentile
from benchmarks.scale.contenders import Contender, Fixed, Spreading
from benchmarks.scale.model import Assumptions

RATES = (1, 10, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
CONTENDERS: dict[str, Contender] = {
    "sharding itself": Spreading(),
    "one item": Fixed(1),
    "8 shards": Fixed(8),
    "32 shards": Fixed(32),
    "128 shards": Fixed(128),
}
# The page shows fewer rows than the picture, because the others support no further conclusion.
_SHOWN_RATES = (10, 100, 200, 500, 1_000, 5_000, 10_000)
SHOWN = ("sharding itself", "one item", "8 shards", "128 shards")
_SECONDS = {1: 3_000, 10: 1_000, 100: 200, 200: 100, 500: 60, 1_000: 30, 2_000: 20, 5_000: 15, 10_000: 12}
_SEEDS = (1, 2, 3)

_COLUMNS = (
    "requests/s",
    "counter",
    "failed",
    "tries, p99",
    "tries per request",
    "latency in ms, p99",
    "DynamoDB throttles/s",
    "queries/s",
    "read units/s",
    "shards",
)
BEGIN, END = "<!-- generated: python -m benchmarks.scale -->", "<!-- end of the generated part -->"


@dataclass(frozen=True)
class Question:
    """A target or a varied assumption, and its cases: one for each seed."""

    name: str
    cases: tuple[Case, ...]


def _seeds(name: str, case: Case) -> Question:
    return Question(name, tuple(replace(case, seed=seed) for seed in _SEEDS))


_HOT = Case(Spreading(), rate=5_000, seconds=15)

TABLE = tuple(
    (rate, name, Case(contender, rate, _SECONDS[rate])) for rate in RATES for name, contender in CONTENDERS.items()
)
TARGETS = (
    _seeds("5,000 requests per second", _HOT),
    _seeds(
        "the same, and the billing period ends after 10 s (first 15 s instead of 5)",
        replace(_HOT, seconds=25, turn_s=10, early_s=15),
    ),
    _seeds("1,000 batches of 100 per second: 100,000 records per second", Case(Spreading(2), rate=1_000, seconds=20)),
    Question("10 per second, 1,000,000 requests", (Case(Spreading(), rate=10, seconds=100_000),)),
    Question("200 per second, 1,000,000 requests", (Case(Spreading(), rate=200, seconds=5_000),)),
)


def _vary(name: str, assumptions: Assumptions) -> Question:
    return _seeds(name, replace(_HOT, assumptions=assumptions))


VARIATIONS = (
    _vary("a transaction holds its items for 12 ms, not 6", Assumptions(hold_s=0.012)),
    _vary("a transaction holds its items for 3 ms, not 6", Assumptions(hold_s=0.003)),
    _vary("a conflict costs no write units", Assumptions(conflict_units=0)),
    _vary(
        "a conflict costs no write units, and 1,000 environments are warm, not 300",
        Assumptions(conflict_units=0, warm=1_000),
    ),
    _vary("a partition key's burst is 0.1 s, not 1", Assumptions(burst_s=0.1)),
    _vary("a partition key's burst is 5 s, not 1", Assumptions(burst_s=5)),
    _vary("150 environments are warm, not 300", Assumptions(warm=150)),
    _vary("1,000 environments are warm, not 300", Assumptions(warm=1_000)),
    _vary("environments last 10 s, not 60", Assumptions(life_s=10)),
    _vary("a request takes 30 ms beside its calls, not 10", Assumptions(work_s=0.030)),
)

_BRIEFLY = Assumptions(burst_s=0.1)
BEGINNINGS: dict[str, Beginning] = {
    "50,000 organizations with one counter each": Beginning(),
    "5,000 organizations with 10 counters each": Beginning(5_000, 10),
    "500 organizations with 100 counters each": Beginning(500, 100),
    "one counter each, and a partition key's burst is 0.1 s, not 1": Beginning(assumptions=_BRIEFLY),
    "100 counters each, and a partition key's burst is 0.1 s, not 1": Beginning(500, 100, assumptions=_BRIEFLY),
    "one counter each, and an entry takes 2 write units, not 1": Beginning(entry_units=2),
    "one counter each, and all begin within 0.1 s, not 1": Beginning(within_s=0.1),
    "one counter each, in 16 lists, not 64": Beginning(lists=16),
    "one counter each, in 8 lists, not 64": Beginning(lists=8),
    "one counter each, in one list, not 64": Beginning(lists=1),
}


def beginnings() -> list[Beginning]:
    """Each beginning, once for each seed, the longest first."""
    return [replace(one, seed=seed) for one in reversed(BEGINNINGS.values()) for seed in _SEEDS]


def cases() -> list[tuple[str, Case]]:
    """Every case with its name, the longest first."""
    named = [(f"{rate:,} per second, {name}", case) for rate, name, case in TABLE]
    named += [(question.name, case) for question in (*TARGETS, *VARIATIONS) for case in question.cases]
    return sorted(named, key=lambda one: -one[1].rate * one[1].seconds)


def markdown(outcomes: dict[Case, Outcome], begun: dict[Beginning, Begun]) -> str:
    """Render the part of docs/scale.md between its markers, markers included."""
    return "\n\n".join(
        [
            BEGIN,
            _questions("Target", TARGETS, outcomes),
            "5,000 requests per second again, with other assumptions:",
            _questions("Assumption", VARIATIONS, outcomes),
            "Each rate runs once with each kind of counter. In a cell with two figures, the first is for the first 5 s "
            "and the second for the rest. The p99 figures are those of answered requests.",
            _table(outcomes),
            "50,000 counters begin in a month's first second, and each gets an entry in a list of the index `lists`:",
            _begun(begun),
            END,
        ]
    )


def _questions(head: str, questions: Sequence[Question], outcomes: dict[Case, Outcome]) -> str:
    columns = (
        "requests",
        "throttled by Lambda",
        "too late",
        "tries, p99, first 5 s",
        "tries, p99, later",
        "tries, maximum",
        "latency in ms, p99, first 5 s",
        "latency in ms, p99, later",
        "queries per request, later",
        "shards",
        "pages",
    )
    lines = [f"| {head} | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for question in questions:
        found = [outcomes[case] for case in question.cases]
        parts = [part for one in found for part in (one.early, one.later)]
        cells = [
            f"{sum(part.requests for part in parts):,}",
            f"{sum(part.refused for part in parts):,}",
            f"{sum(part.late for part in parts):,}",
            _span([percentile(one.early.tries, 99) for one in found]),
            _span([percentile(one.later.tries, 99) for one in found]),
            f"{max(max(part.tries) for part in parts)}",
            _span([_ms(one.early) for one in found]),
            _span([_ms(one.later) for one in found]),
            f"{sum(one.later.seen['queries'] for one in found) / sum(one.later.requests for one in found):.2f}",
            _span([one.shards[-1] for one in found]),
            _span([one.pages[-1] for one in found]),
        ]
        lines.append(f"| {question.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _table(outcomes: dict[Case, Outcome]) -> str:
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        "|---:|---|" + "---:|" * (len(_COLUMNS) - 2),
    ]
    for rate, name, case in TABLE:
        if rate not in _SHOWN_RATES or name not in SHOWN:
            continue
        one = outcomes[case]
        parts = (one.early, one.later)
        cells = [
            _two([_percent(part.failed, part.requests) for part in parts]),
            _two([f"{percentile(part.tries, 99):.0f}" for part in parts]),
            _two([f"{part.tries_of_all / max(1, part.requests):.2f}" for part in parts]),
            _two([f"{_ms(part):.0f}" for part in parts]),
            *(
                _two([f"{part.seen[what] / part.seconds:,.0f}" for part in parts])
                for what in ("throttles", "queries", "read units")
            ),
            str(one.shards[-1]),
        ]
        lines.append(f"| {rate:,} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _begun(outcomes: dict[Beginning, Begun]) -> str:
    columns = (
        "counters",
        "too late",
        "throttles per counter",
        "tries, p99",
        "tries, maximum",
        "latency in ms, p99",
        "entries of the busiest list",
    )
    lines = ["| First second | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, case in BEGINNINGS.items():
        found = [outcomes[replace(case, seed=seed)] for seed in _SEEDS]
        counters = case.organizations * case.counters * len(found)
        cells = [
            f"{counters:,}",
            _percent(sum(one.late for one in found), counters),
            f"{sum(one.throttles for one in found) / counters:.2f}",
            _span([percentile(one.tries, 99) for one in found]),
            f"{max(max(one.tries) for one in found)}",
            _span([percentile(one.latencies_s, 99) * 1000 for one in found]),
            _span([max(one.entries.values()) for one in found]),
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ms(part: Part) -> float:
    return percentile(part.latencies_s, 99) * 1000


def _two(cells: list[str]) -> str:
    return cells[0] if cells[0] == cells[1] else " / ".join(cells)


def _span(values: Sequence[float]) -> str:
    least, most = f"{min(values):,.0f}", f"{max(values):,.0f}"
    return least if least == most else f"{least} to {most}"


def _percent(some: int, of: int) -> str:
    return "0" if some == 0 else f"{100 * some / of:.2g} %"


def plot(outcomes: dict[Case, Outcome], path: Path) -> None:
    """Write a PNG of failures, tries and latency over the rate."""
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(13, 4.4), layout="constrained")
        failed, tries, latency = figure.subplots(1, 3)
        least = 1e-5
        for (name, contender), marker in zip(CONTENDERS.items(), "os^Dv", strict=True):
            found = [outcomes[case] for _, _, case in TABLE if case.contender == contender]
            style = {"marker": marker, "label": name, "linewidth": 2.5 if contender == Spreading() else 1.3}
            failed.plot(RATES, [max(least, _failed_share(one)) for one in found], **style)
            tries.plot(RATES, [max(1, percentile(one.later.tries, 99)) for one in found], **style)
            latency.plot(RATES, [_ms(one.later) for one in found], **style)
        for axes, title in (
            (failed, "failed requests, share of all"),
            (tries, "tries, p99, after the first 5 s"),
            (latency, "latency in ms, p99, after the first 5 s"),
        ):
            axes.set(xscale="log", yscale="log", title=title, xlabel="requests per second on one counter")
            axes.set_xticks([1, 10, 100, 1_000, 10_000], ["1", "10", "100", "1,000", "10,000"])
            axes.grid(alpha=0.3)
        failed.set_yticks([least, 1e-4, 1e-3, 1e-2, 1e-1, 1], ["none", "0.01 %", "0.1 %", "1 %", "10 %", "100 %"])
        tries.set_yticks([1, 2, 3, 5, 10, 20], ["1", "2", "3", "5", "10", "20"])
        tries.minorticks_off()
        latency.set_yticks([10, 100, 1_000, 10_000], ["10", "100", "1,000", "10,000"])
        failed.legend(loc="upper left")
        figure.savefig(path, dpi=110, metadata={"Software": None})


def _failed_share(one: Outcome) -> float:
    parts = (one.early, one.later)
    return sum(part.failed for part in parts) / sum(part.requests for part in parts)
