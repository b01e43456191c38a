"""The figures of a soak as a Markdown table, and their publication in docs/reliability.md."""

from typing import Any

from tools.setup import ROOT

DOCUMENT = ROOT / "docs" / "reliability.md"
_BEGIN, _END = "<!-- soak: written by `make soak` -->", "<!-- end of soak -->"

# Shorter soaks are not published.
_LEAST_OPERATIONS = 100_000
_LEAST_FAULTS = 10_000


def is_long(report: dict[str, Any]) -> bool:
    """Return whether the soak was long enough to publish, with all crash points, on dynoxide, the exact engine."""
    enough = report["operations"] >= _LEAST_OPERATIONS and report["faults injected"] >= _LEAST_FAULTS
    return enough and report["crash points"] is not None and report["engine"] == "dynoxide"


def table(report: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    lines = [
        f"{report['date']}, seeds {report['seeds']}, engine {report['engine']}, "
        f"{report['duration in seconds'] / 60:.0f} minutes:",
        "",
        "| | |",
        "|---|---:|",
    ]
    counted = (
        "operations",
        "requests",
        "requests with batches",
        "batch records answered",
        "records counted",
        "requests refused at hard limits",
        "counters always under hard limits",
        "counter pages after the first",
        "thresholds noticed",
        "actions of operators and other services",
        "events delivered",
        "stream batches delivered",
        "stream batches with reported failures",
        "conflicts without an injected fault",
    )
    lines += [f"| {name} | {report[name]:,} |" for name in counted]
    lines += [
        f"| faults injected at the functions' calls | {report['faults injected']:,} |",
        f"| processes killed by faults | {report['processes killed']:,} |",
    ]
    if points := report["crash points"]:
        lines += [
            f"| calls found, each tried with every fault | {points['calls']:,} |",
            f"| crash points: kills at these calls, and at calls that follow a fault | {points['kills']:,} |",
            f"| faults at crash points, including kills | {points['faults']:,} |",
        ]
    found = len(report["violations"]) + (len(points["violations"]) if points else 0)
    lines += [f"| **violations** | **{found}** |", ""]
    by_call = report["faults by call"]
    kinds = sorted({kind for faults in by_call.values() for kind in faults})
    lines += [
        f"| fault | {' | '.join(by_call)} |",
        f"|---|{'---:|' * len(by_call)}",
        *(f"| {kind} | {' | '.join(_number(faults.get(kind)) for faults in by_call.values())} |" for kind in kinds),
    ]
    return "\n".join(lines)


def publish(report: dict[str, Any]) -> None:
    """Replace the figures in the document."""
    before, _, rest = DOCUMENT.read_text("utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    DOCUMENT.write_text(f"{before}{_BEGIN}\n{table(report)}\n{_END}{after}", "utf-8")


def _number(count: int | None) -> str:
    return "" if count is None else f"{count:,}"
