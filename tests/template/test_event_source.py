import json
from typing import Any

import pytest

from infra.environments import Environment
from tests.testing.stacks import Stacks

READERS = {"Publisher": ["usage#", "notice#"], "Watcher": ["counter#", "organization#", "plan#"]}


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_two_functions_read_the_tables_stream_and_no_third(stacks: Stacks) -> None:
    assert len(stacks.service.resources("AWS::Lambda::EventSourceMapping")) == len(READERS)


def test_a_reader_reads_the_tables_stream(stacks: Stacks, reader: str) -> None:
    source = _event_source(stacks, reader)
    assert stacks.name(source["EventSourceArn"]) == "UsageTable.StreamArn"
    assert stacks.name(source["FunctionName"]) == f"{reader}Function"


def test_the_publishers_event_source_is_the_one_that_is_deployed(stacks: Stacks) -> None:
    # Deployed since 0.1.0. Another logical id would create a second event source, which Lambda rejects beside this one.
    assert "PublisherStreamA7926989" in stacks.service.resources("AWS::Lambda::EventSourceMapping")


def test_changes_from_before_the_event_source_existed_are_delivered(stacks: Stacks, reader: str) -> None:
    assert _event_source(stacks, reader)["StartingPosition"] == "TRIM_HORIZON"


def test_a_reader_is_invoked_for_its_own_items_and_not_for_ttl_removals(stacks: Stacks, reader: str) -> None:
    rules = _event_source(stacks, reader)["FilterCriteria"]["Filters"]
    assert [json.loads(rule["Pattern"]) for rule in rules] == [
        {"eventName": ["INSERT", "MODIFY"], "dynamodb": {"Keys": {"pk": {"S": [{"prefix": prefix}]}}}}
        for prefix in READERS[reader]
    ]


def test_a_batch_is_retried_from_its_first_failed_record(stacks: Stacks, reader: str) -> None:
    source = _event_source(stacks, reader)
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["BisectBatchOnFunctionError"] is True


def test_retries_are_bounded_by_age_and_not_by_count(stacks: Stacks, reader: str) -> None:
    source = _event_source(stacks, reader)
    assert source["MaximumRetryAttempts"] == -1
    assert source["MaximumRecordAgeInSeconds"] == 20 * 60 * 60


def test_a_record_that_exhausts_its_retries_goes_to_the_failure_bucket(stacks: Stacks, reader: str) -> None:
    assert stacks.name(_event_source(stacks, reader)["DestinationConfig"]["OnFailure"]["Destination"]) == "Failures.Arn"


def test_changes_of_one_item_keep_their_order(stacks: Stacks, reader: str) -> None:
    assert _event_source(stacks, reader)["ParallelizationFactor"] == 1


def test_a_reader_gets_batches_of_the_size_that_its_environment_says(stacks: Stacks, environment: Environment) -> None:
    sizes = {reader: _event_source(stacks, reader)["BatchSize"] for reader in READERS}
    assert sizes == {"Publisher": environment.publisher_batch_size, "Watcher": environment.watcher_batch_size}


def test_a_batch_gives_the_publisher_enough_for_every_thread(environment: Environment) -> None:
    # A call publishes ten records. With fewer than eight calls in a batch, most threads would have nothing to do.
    assert environment.publisher_batch_size >= 8 * 10


def test_a_reader_does_not_wait_for_a_batch_to_fill(stacks: Stacks, reader: str) -> None:
    assert "MaximumBatchingWindowInSeconds" not in _event_source(stacks, reader)


def _event_source(stacks: Stacks, reader: str) -> dict[str, Any]:
    return stacks.service.properties("AWS::Lambda::EventSourceMapping", reader)
