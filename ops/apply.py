"""`metering plans apply`: show the changes, ask before removing features in use, then write.

    read the file → read the stored plans → show → ask if a used feature is lost → write plan by plan

Nothing changes before the first write. A failure between two plans leaves the earlier plans written. The next run finds
those unchanged.
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


@dataclass(frozen=True)
class Preview:
    """The changes that applying a file would make."""

    changes: Sequence[Change]
    left_alone: Sequence[str]
    """Stored plans that the file does not contain."""
    billing_period: str
    in_use: dict[str, dict[str, list[str]]]
    """The organizations that used a feature in this billing period that their plan loses, by plan and feature."""

    def lines(self) -> list[str]:
        """All changes, one line each, for a person."""
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
        return lines + [f"{plan}: not in the file, left unchanged" for plan in self.left_alone]

    def losses(self) -> list[str]:
        """Features in use that a plan loses, one line each."""
        return [
            f"{plan} loses {feature}, which {plans.some_of(organizations)} used in {self.billing_period}"
            for plan, features in self.in_use.items()
            for feature, organizations in features.items()
        ]

    def content(self, dry_run: bool) -> dict[str, Any]:
        """All changes, for a program."""
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
    """Compare the plans of a file with the stored plans.

    Raises: PlanUnreadable, TableBusy.
    """
    stored = plans.read(dynamodb, table, [plan.id for plan in wanted])
    changes = plans.changes(stored, wanted)
    period = billing_period_of(now)
    in_use = plans.usage_of_removed(dynamodb, table, changes, period) if look_for_usage else {}
    return Preview(changes, sorted(stored.keys() - {plan.id for plan in wanted}), period, in_use)


def confirm(found: Preview, answers: TextIO, questions: TextIO) -> None:
    """Ask at the terminal whether to remove the features in use.

    Ask nothing if no plan loses a feature in use.

    Raises: NotConfirmed.
    """
    losses = found.losses()
    if not losses:
        return
    if not answers.isatty():
        raise NotConfirmed("\n".join(f"{loss}: pass --yes to remove the feature anyway." for loss in losses))
    question = "".join(f"{loss}.\n" for loss in losses) + "Remove anyway? [y/N] "
    print(question, end="", file=questions, flush=True)
    if answers.readline().strip().lower() not in ("y", "yes"):
        raise NotConfirmed("nothing was written.")


def write(dynamodb: "DynamoDBClient", table: str, changes: Sequence[Change], say: Callable[[str], None]) -> None:
    """Write each plan that is new or changed, each in one transaction, and report each.

    Raises:
        PlanContended: another writer changed the plan that the message names; that plan and the later ones were not
            written.
    """
    for change in changes:
        if change.kind != "unchanged":
            plans.write(dynamodb, table, change)
            say(f"{change.plan.id} was written.")
    # A crash before this line leaves features of no plan among the known features. The next run removes them.
    plans.forget_unused_features(dynamodb, table)
