"""The service stack: the functions that record usage and publish it. The usage is stored in the data stack."""

from pathlib import Path

from aws_cdk import CfnOutput, IStackSynthesizer, Stack
from constructs import Construct

from infra.audit_trail import AuditTrail
from infra.data_stack import DataStack
from infra.environments import Environment, Trust
from infra.http_api import HttpApi
from infra.publisher_function import PublisherFunction
from infra.query_function import QueryFunction
from infra.record_function import RecordFunction
from infra.rejected_events import RejectedEvents
from infra.subscriptions_function import SubscriptionsFunction
from infra.watcher_function import WatcherFunction


class ServiceStack(Stack):
    """The stack with three outputs, each a URL.

    Url             the base of all routes
    Queue           the queue that receives every event
    RejectedQueue   the queue of rejected events
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: Environment,
        trust: Trust,
        bundle: Path,
        data: DataStack,
        synthesizer: IStackSynthesizer,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            description="usage-metering: the API that records usage, and the functions that publish it",
            synthesizer=synthesizer,
        )
        record = RecordFunction(self, "Record", environment=environment, bundle=bundle, table=data.table)
        query = QueryFunction(self, "Query", environment=environment, bundle=bundle, table=data.table)
        api = HttpApi(
            self,
            "Http",
            environment=environment,
            trust=trust,
            record_function=record.function,
            query_function=query.function,
        )
        PublisherFunction(
            self,
            "Publisher",
            environment=environment,
            bundle=bundle,
            table=data.table,
            bus=data.bus,
            failures=data.failures,
        )
        WatcherFunction(
            self,
            "Watcher",
            environment=environment,
            bundle=bundle,
            table=data.table,
            failures=data.failures,
        )
        rejected = RejectedEvents(self, "Rejected", environment=environment)
        SubscriptionsFunction(
            self,
            "Subscriptions",
            environment=environment,
            bundle=bundle,
            table=data.table,
            bus=data.bus,
            rejected=rejected,
        )
        audit = AuditTrail(self, "Audit", environment=environment, bus=data.bus)

        CfnOutput(self, "Url", value=api.url)
        CfnOutput(self, "Queue", value=audit.queue.queue_url)
        CfnOutput(self, "RejectedQueue", value=rejected.queue_url)
