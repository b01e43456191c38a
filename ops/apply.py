"""`metering plans apply`: show what a file would change, ask before something in use goes, write.

    read the file → read the stored plans → show → ask, if a feature with usage goes → write plan by plan

Up to the first write nothing is changed; a failure between two plans leaves those before it written, which the next run
finds unchanged.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from metering.model.periods import billing_period_of
from metering.model.plans import Plan

from ops import plans
from ops.errors import NotConfirmed
from ops.plans import Change

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Enough to see whom it is about.
_NAMED = 3


@dataclass(frozen=True)
class Preview:
    """What applying a file comes to."""

    changes: Sequence[Change]
    left_alone: Sequence[str]
    """Plans that are stored and not in the file."""
    billing_period: str
    in_use: dict[str, dict[str, list[str]]]
    """By plan and feature that it loses: the organizations on it that used the feature in this period."""

    def lines(self) -> list[str]:
        """It all, for a person."""
        lines: list[str] = []
        for change in self.changes:
            lines.append(f"{change.plan.id}: {change.kind}")
            for member in change.members():
                before, after = json.dumps(member.before), json.dumps(member.after)
                if member.before is None:
                    lines.append(f"  + {member.path}: {after}")
                elif member.after is None:
                    lines.append(f"  - {member.path}: {before}")
                else:
                    lines.append(f"  ~ {member.path}: {before} -> {after}")
        return lines + [f"{plan}: not in the file, left alone" for plan in self.left_alone]

    def losses(self) -> list[str]:
        """What is lost though it is used, a line each."""
        return [
            f"{plan} loses {feature}, which {_some(organizations)} used in {self.billing_period}"
            for plan, features in self.in_use.items()
            for feature, organizations in features.items()
        ]

    def content(self, dry_run: bool) -> dict[str, Any]:
        """It all, for a program."""
        changed = {
            change.plan.id: {
                "change": change.kind,
                "members": [
                    {"path": member.path, "before": member.before, "after": member.after} for member in change.members()
                ],
            }
            for change in self.changes
        }
        return {"dryRun": dry_run, "plans": changed, "leftAlone": list(self.left_alone), "inUse": self.in_use}


def preview(
    dynamodb: "DynamoDBClient", table: str, wanted: Sequence[Plan], now: datetime, look_for_usage: bool
) -> Preview:
    """What applying the plans of a file would change.

    Raises: PlanUnreadable.
    """
    stored = plans.read(dynamodb, table, [plan.id for plan in wanted])
    changes = plans.changes(stored, wanted)
    period = billing_period_of(now)
    in_use = plans.usage_of_removed(dynamodb, table, changes, period) if look_for_usage else {}
    return Preview(changes, sorted(stored.keys() - {plan.id for plan in wanted}), period, in_use)


def confirm(found: Preview, answers: TextIO, questions: TextIO) -> None:
    """Have somebody at the terminal say yes to the loss of what is used; ask nothing if there is no such loss.

    Raises: NotConfirmed.
    """
    losses = found.losses()
    if not losses:
        return
    if not answers.isatty():
        raise NotConfirmed("\n".join(f"{loss}: say --yes to remove it all the same." for loss in losses))
    question = "".join(f"{loss}.\n" for loss in losses) + "Remove it all the same? [y/N] "
    print(question, end="", file=questions, flush=True)
    if answers.readline().strip().lower() not in ("y", "yes"):
        raise NotConfirmed("nothing was written.")


def write(dynamodb: "DynamoDBClient", table: str, changes: Sequence[Change], say: Callable[[str], None]) -> None:
    """Write the plans that are not as they should be, each as a whole, and say each.

    Raises: PlanContended: for the plan it names and those after it nothing was written.
    """
    for change in changes:
        if change.kind != "unchanged":
            plans.write(dynamodb, table, change)
            say(f"{change.plan.id} is written.")
    # A crash before this line leaves names that no plan has among the known features; the next run takes them out.
    plans.forget_unused_features(dynamodb, table)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
