import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from ops import viewer
from tests.testing.aws import SESSION

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sqs import SQSClient


class Aws:
    """A bus, and a client that puts events on it."""

    def __init__(self) -> None:
        self.events: EventBridgeClient = SESSION.client("events")
        self.sqs: SQSClient = SESSION.client("sqs")
        self.events.create_event_bus(Name="bus")

    def put(self, number: int, source: str = "saas.billing") -> None:
        detail = json.dumps({"id": number})
        self.events.put_events(
            Entries=[{"EventBusName": "bus", "Source": source, "DetailType": "usage", "Detail": detail}]
        )


@pytest.fixture
def aws() -> Iterator[Aws]:
    with mock_aws():
        yield Aws()


def _ids(lines: list[str]) -> list[int]:
    return [json.loads(line)["detail"]["id"] for line in lines]


def test_every_viewer_sees_every_event(aws: Aws) -> None:
    with (
        viewer.subscription(aws.events, aws.sqs, "bus") as one,
        viewer.subscription(aws.events, aws.sqs, "bus") as other,
    ):
        aws.put(1)
        aws.put(2, source="somebody.else")

        assert sorted(_ids(viewer.receive(aws.sqs, one, 0))) == [1, 2]
        assert sorted(_ids(viewer.receive(aws.sqs, other, 0))) == [1, 2]


def test_an_event_is_shown_whole(aws: Aws) -> None:
    with viewer.subscription(aws.events, aws.sqs, "bus") as queue:
        aws.put(1)

        (line,) = viewer.receive(aws.sqs, queue, 0)

    assert json.loads(line).keys() >= {"id", "source", "detail-type", "detail", "time", "region"}


def test_an_event_is_shown_once(aws: Aws) -> None:
    with viewer.subscription(aws.events, aws.sqs, "bus") as queue:
        aws.put(1)
        viewer.receive(aws.sqs, queue, 0)

        left = aws.sqs.get_queue_attributes(
            QueueUrl=queue,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )["Attributes"]

    assert set(left.values()) == {"0"}


def test_an_event_with_line_breaks_becomes_one_line(aws: Aws) -> None:
    with viewer.subscription(aws.events, aws.sqs, "bus") as queue:
        aws.sqs.send_message(QueueUrl=queue, MessageBody='{\r\n "a": "b\\n",\n "c": 1\n}')

        (line,) = viewer.receive(aws.sqs, queue, 0)

    assert "\n" not in line
    assert "\r" not in line
    assert json.loads(line) == {"a": "b\n", "c": 1}


def test_text_of_a_caller_does_not_control_the_terminal(aws: Aws) -> None:
    detail = {"metadata": {"a": "\x1b[2J\x7f\x9b2J\u202e\u2028ü\U0001f600"}}
    with viewer.subscription(aws.events, aws.sqs, "bus") as queue:
        aws.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(detail, ensure_ascii=False))
        (line,) = viewer.receive(aws.sqs, queue, 0)
    assert json.loads(line) == detail
    assert line.isprintable()
    assert "ü\U0001f600" in line


def test_only_its_own_rule_may_send_to_a_viewer(aws: Aws) -> None:
    with viewer.subscription(aws.events, aws.sqs, "bus") as queue:
        policy = aws.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])["Attributes"]["Policy"]
        (rule,) = aws.events.list_rules(EventBusName="bus")["Rules"]

    (statement,) = json.loads(policy)["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": rule["Arn"]}}


def test_a_viewer_leaves_nothing_behind(aws: Aws) -> None:
    with pytest.raises(KeyboardInterrupt), viewer.subscription(aws.events, aws.sqs, "bus"):
        raise KeyboardInterrupt

    assert aws.events.list_rules(EventBusName="bus")["Rules"] == []
    assert aws.sqs.list_queues().get("QueueUrls", []) == []


def test_a_viewer_of_no_bus_leaves_nothing_behind(aws: Aws) -> None:
    with pytest.raises(ClientError), viewer.subscription(aws.events, aws.sqs, "nowhere"):
        pass

    assert aws.sqs.list_queues().get("QueueUrls", []) == []


def test_a_resource_that_cannot_be_removed_does_not_keep_the_others(aws: Aws) -> None:
    with viewer.subscription(aws.events, aws.sqs, "bus") as queue:
        aws.events.remove_targets(Rule=queue.rpartition("/")[2], EventBusName="bus", Ids=["viewer"])
        aws.events.delete_rule(Name=queue.rpartition("/")[2], EventBusName="bus")

    assert aws.sqs.list_queues().get("QueueUrls", []) == []
