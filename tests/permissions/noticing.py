"""The test that notices when a grant is missing. For grants that the emulator does not enforce, a test of the template.

`make permissions` writes the result, docs/permissions.md. Tests in tests/template and tests/e2e check it.
"""

import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import httpx
from botocore.exceptions import HTTPClientError

from tests.permissions.grants import Grant
from tests.testing.local_stack import LocalStack
from tools.setup import ROOT

DOCUMENT = ROOT / "docs" / "permissions.md"

# End-to-end tests that together use every enforced grant. Quick tests come first, as the first one to fail is named.
PROBES = (
    "tests.e2e.test_refusals.test_an_unknown_organization_is_not_found",
    "tests.e2e.test_recording.test_a_key_belongs_to_one_content_per_organization",
    "tests.e2e.test_queries.test_a_recorded_usage_is_found_by_its_key",
    "tests.e2e.test_queries.test_the_summary_and_the_check_agree_with_what_recording_answers",
    "tests.e2e.test_recording.test_an_inactive_organization_records_nothing_new",
    "tests.e2e.test_recording.test_a_replay_is_answered_after_the_organization_became_inactive",
    "tests.e2e.test_batches.test_a_batch_of_an_inactive_organization_acknowledges_what_was_recorded_before",
    "tests.e2e.test_recording.test_the_events_trace_id_is_the_requests_id",
    "tests.e2e.test_recording.test_a_malformed_record_reaches_the_failure_bucket_and_its_neighbours_the_bus",
    "tests.e2e.test_subscriptions.test_an_organization_that_was_created_elsewhere_may_record",
    "tests.e2e.test_subscriptions.test_a_rejected_event_is_in_the_queue_with_its_reason",
    "tests.e2e.test_limits.test_a_hard_limit_holds_and_a_raised_limit_is_reached_again",
)

# For each role, the test of its exact statements.
TEMPLATE_TESTS: Mapping[str, str] = {
    "Record": "tests.template.test_functions.test_the_record_function_may_only_record",
    "Query": "tests.template.test_functions.test_the_query_function_may_only_read",
    "Publisher": "tests.template.test_functions.test_the_publisher_may_only_publish",
    "Subscriptions": (
        "tests.template.test_functions.test_the_subscriptions_function_may_only_change_organizations_and_reject"
    ),
    "Watcher": "tests.template.test_functions.test_the_watcher_may_only_look_and_put_notices",
}

_WRITES_LOGS = "the emulator writes the functions' logs itself"
_READS_STREAM = "the emulator's event source reads the stream without the role"
_KEEPS_NOTHING = "the emulator's event source puts nothing into a bucket"
# Only Lambda itself uses these grants. The emulator makes the same calls without the role.
UNENFORCED: Mapping[Grant, str] = {
    Grant("Record", "logs:CreateLogStream", "RecordLog.Arn"): _WRITES_LOGS,
    Grant("Record", "logs:PutLogEvents", "RecordLog.Arn"): _WRITES_LOGS,
    Grant("Query", "logs:CreateLogStream", "QueryLog.Arn"): _WRITES_LOGS,
    Grant("Query", "logs:PutLogEvents", "QueryLog.Arn"): _WRITES_LOGS,
    Grant("Publisher", "logs:CreateLogStream", "PublisherLog.Arn"): _WRITES_LOGS,
    Grant("Publisher", "logs:PutLogEvents", "PublisherLog.Arn"): _WRITES_LOGS,
    Grant("Publisher", "dynamodb:DescribeStream", "UsageTable.StreamArn"): _READS_STREAM,
    Grant("Publisher", "dynamodb:GetRecords", "UsageTable.StreamArn"): _READS_STREAM,
    Grant("Publisher", "dynamodb:GetShardIterator", "UsageTable.StreamArn"): _READS_STREAM,
    Grant("Publisher", "dynamodb:ListStreams", "UsageTable.StreamArn"): _READS_STREAM,
    Grant("Publisher", "s3:PutObject", "Failures.Arn/aws/lambda/*"): _KEEPS_NOTHING,
    Grant("Publisher", "s3:ListBucket", "Failures.Arn"): _KEEPS_NOTHING,
    Grant("Subscriptions", "logs:CreateLogStream", "SubscriptionsLog.Arn"): _WRITES_LOGS,
    Grant("Subscriptions", "logs:PutLogEvents", "SubscriptionsLog.Arn"): _WRITES_LOGS,
    Grant("Watcher", "logs:CreateLogStream", "WatcherLog.Arn"): _WRITES_LOGS,
    Grant("Watcher", "logs:PutLogEvents", "WatcherLog.Arn"): _WRITES_LOGS,
    Grant("Watcher", "dynamodb:DescribeStream", "UsageTable.StreamArn"): _READS_STREAM,
    Grant("Watcher", "dynamodb:GetRecords", "UsageTable.StreamArn"): _READS_STREAM,
    Grant("Watcher", "dynamodb:GetShardIterator", "UsageTable.StreamArn"): _READS_STREAM,
    Grant("Watcher", "dynamodb:ListStreams", "UsageTable.StreamArn"): _READS_STREAM,
    Grant("Watcher", "s3:PutObject", "Failures.Arn/aws/lambda/*"): _KEEPS_NOTHING,
    Grant("Watcher", "s3:ListBucket", "Failures.Arn"): _KEEPS_NOTHING,
}

_HEAD = """\
# The functions' permissions, and the tests that notice a missing one

`make permissions` writes this page. It removes one grant at a time from the deployed local stack, where IAM is
enforced. Then it runs end-to-end tests until one fails. The last column names that test. The emulator does not enforce
some grants. For these, the last column names the test of the role's exact statements in the templates. That test fails
without any one of them.

| function | is allowed to | on | noticed by |
|---|---|---|---|
"""
_ROW = re.compile(r"\| (\w+) \| `([^`]+)` \| `([^`]+)` \| `(\w+)` \|")


def found(name: str) -> Callable[[Any], None]:
    """The test of this name. Imported at run time, because this package runs tests and builds nothing on them."""
    module, _, function = name.rpartition(".")
    test: Callable[[Any], None] = getattr(importlib.import_module(module), function)
    return test


def first_to_notice(stack: LocalStack, probes: Iterable[str] = PROBES) -> str | None:
    """The name of the first of `probes` that fails on `stack`; None if all pass.

    Raises:
        httpx.TransportError, HTTPClientError: the stack does not answer, so that the probe has noticed nothing.
    """
    for probe in probes:
        try:
            found(probe)(stack)
        except (httpx.TransportError, HTTPClientError):
            raise
        except Exception:  # noqa: BLE001 - every failure of a probe counts
            return last_of(probe)
    return None


def last_of(name: str) -> str:
    """A test's name without its module's."""
    return name.rpartition(".")[2]


def contradictions(noticed: Mapping[Grant, str | None]) -> list[str]:
    """The contradictions between a run's result for every grant and UNENFORCED, one sentence each."""
    return [
        *(
            f"No test notices that {grant} is gone: write one, remove the grant, or name it in UNENFORCED."
            for grant, test in noticed.items()
            if test is None and grant not in UNENFORCED
        ),
        *(
            f"{grant} is enforced after all, {test} noticed: remove it from UNENFORCED."
            for grant, test in noticed.items()
            if test is not None and grant in UNENFORCED
        ),
        *(f"{grant} is not granted: remove it from UNENFORCED." for grant in UNENFORCED if grant not in noticed),
    ]


def rendered(granted: Sequence[Grant], noticed: Mapping[Grant, str | None]) -> str:
    """The document for these grants, in their order."""
    return _HEAD + "".join(
        f"| {grant.function} | `{grant.action}` | `{grant.resource}` | {_noticed_by(grant, noticed)} |\n"
        for grant in granted
    )


def documented() -> dict[Grant, str]:
    """The test that docs/permissions.md names for each grant that is enforced."""
    return {Grant(*row[:3]): row[3] for row in _ROW.findall(DOCUMENT.read_text("utf-8"))}


def _noticed_by(grant: Grant, noticed: Mapping[Grant, str | None]) -> str:
    test = noticed.get(grant)
    if test is not None:
        return f"`{test}`"
    if grant in UNENFORCED:
        return f"`{last_of(TEMPLATE_TESTS[grant.function])}`, as {UNENFORCED[grant]}"
    return "**nothing**"
