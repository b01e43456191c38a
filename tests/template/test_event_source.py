import json
from typing import Any

from metering.items import USAGE_PREFIX

from infra.environments import Environment
from tests.template.stacks import Stacks


def test_the_publisher_reads_the_tables_stream(stacks: Stacks) -> None:
    source = _event_source(stacks)
    assert stacks.name(source["EventSourceArn"]) == "UsageTable.StreamArn"
    assert stacks.name(source["FunctionName"]) == "PublisherFunction"


def test_usage_recorded_before_the_event_source_existed_is_published(stacks: Stacks) -> None:
    assert _event_source(stacks)["StartingPosition"] == "TRIM_HORIZON"


def test_only_new_and_overwritten_usage_wakes_the_publisher(stacks: Stacks) -> None:
    (rule,) = _event_source(stacks)["FilterCriteria"]["Filters"]
    assert json.loads(rule["Pattern"]) == {
        "eventName": ["INSERT", "MODIFY"],
        "dynamodb": {"Keys": {"pk": {"S": [{"prefix": USAGE_PREFIX}]}}},
    }


def test_a_batch_is_retried_from_its_first_failed_record(stacks: Stacks) -> None:
    source = _event_source(stacks)
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["BisectBatchOnFunctionError"] is True


def test_retries_are_bounded_by_age_and_not_by_count(stacks: Stacks) -> None:
    source = _event_source(stacks)
    assert source["MaximumRetryAttempts"] == -1
    assert source["MaximumRecordAgeInSeconds"] == 20 * 60 * 60


def test_what_outlives_its_retries_goes_to_the_failure_bucket(stacks: Stacks) -> None:
    assert stacks.name(_event_source(stacks)["DestinationConfig"]["OnFailure"]["Destination"]) == "Failures.Arn"


def test_events_of_one_record_keep_their_order(stacks: Stacks, environment: Environment) -> None:
    source = _event_source(stacks)
    assert source["ParallelizationFactor"] == 1
    assert source["BatchSize"] == environment.stream_batch_size


def test_the_publisher_does_not_wait_for_a_batch_to_fill(stacks: Stacks) -> None:
    assert "MaximumBatchingWindowInSeconds" not in _event_source(stacks)


def _event_source(stacks: Stacks) -> dict[str, Any]:
    return stacks.service.properties("AWS::Lambda::EventSourceMapping")
