"""AWS's clients for one environment of a function, over the simulated table, bus, bucket and queue. Any call may fail.

A call takes time before and after its effect. A failed call may have taken effect, or may take effect later. The latest
moment is the invocation's deadline. AWS accepts a request while its signature is valid, for some minutes longer; the
simulation does not cover that.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, TypeVar

from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from tests.simulation import answers
from tests.simulation.environment import Environment, Killed
from tests.simulation.expressions import Invalid
from tests.simulation.store import AT_ONCE, NOTHING, Interference, Tearing
from tests.simulation.table import validate
from tests.simulation.tracing import call_in_words
from tests.simulation.world import World

T = TypeVar("T")

_THROTTLES = ("ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded")
# The share of its items that an unlucky transaction finds held or throttled.
_HELD = Interference(conflicts=0.4)
_THROTTLED = Interference(throttles=0.4)
# An answered commit is visible within this time.
_SHOWS_S = 0.01
_LATE_EFFECT = frozenset(("late", "killed, late"))
_AFTER_EFFECT = frozenset(("killed after", "server error after", "answer lost"))
# botocore itself retries these.
_SENT_AGAIN = (ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError)


class _Caller:
    """Makes the calls of an environment, some of them with faults."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._world: World = environment.world

    def call(self, operation: str, effect: Callable[[bool, Interference], tuple[T, float]], *, writes: bool) -> T:
        """Make one call.

        `effect` takes whether its answer is lost. It returns the answer and the time from which it is visible.

        Raises:
            Killed: the environment was killed.
            Exception: as botocore's client raises it.
        """
        environment, world = self._environment, self._world
        label = environment.next_call(operation)
        random = environment.random
        again = world.rates.botocore_tries > random.random() and not world.is_calm
        world.tally[operation] += 1
        try:
            return self._try(label, operation, effect, writes=writes)
        except Exception as error:
            if not again or not _is_sent_again(error):
                raise
        environment.wait(random.uniform(0, 1))
        return self._try(f"{label}+", operation, effect, writes=writes)

    def _try(
        self, label: str, operation: str, effect: Callable[[bool, Interference], tuple[T, float]], *, writes: bool
    ) -> T:
        environment, world, random = self._environment, self._world, self._environment.random
        environment.wait(random.uniform(0.001, 0.006) if random.random() > 0.1 else random.uniform(0, 0.08))
        chance = random.random()
        fate = world.fate(label, chance * environment.luck)
        interference = NOTHING
        if fate is not None:
            # Random numbers of its own, so that a run without this fault goes on the same way.
            unlucky = Random(chance)
            if writes and (fate in _AFTER_EFFECT or fate in _LATE_EFFECT):
                self._lose(fate, effect, unlucky)
            if fate == "slow":
                environment.wait(unlucky.uniform(0, 1.9))
            elif fate == "conflict":
                interference = _HELD
            elif fate == "item throttled":
                interference = _THROTTLED
            else:
                self._fail(fate, operation, unlucky)
        answer, shows_s = effect(False, interference)
        environment.wait(max(shows_s - world.scheduler.now_s, 0.0) + random.uniform(0.0005, 0.003))
        return answer

    def _lose(self, fate: str, effect: Callable[[bool, Interference], tuple[T, float]], random: Random) -> None:
        """Apply the effect without an answer, now or later."""

        def take_effect() -> None:
            try:
                effect(True, NOTHING)
            except ClientError:
                return

        if fate not in _LATE_EFFECT:
            take_effect()
            return
        now_s = self._world.scheduler.now_s
        later_s = now_s + random.choice([random.uniform(0, 0.1), random.uniform(0, 2), random.uniform(0, 15)])
        effect_s = min(later_s, self._environment.until_s)
        self._environment.last_effect_s = max(self._environment.last_effect_s, effect_s)
        self._world.scheduler.at(effect_s, take_effect)

    def _fail(self, fate: str, operation: str, random: Random) -> None:
        """Raise the error of this fate, or kill the environment."""
        if fate.startswith("killed"):
            self._environment.die()
            raise Killed
        if fate == "throttled":
            raise answers.error(operation, random.choice(_THROTTLES))
        if fate.startswith("server error"):
            raise answers.error(operation, "InternalServerError", status=500)
        if fate == "not sent":
            self._environment.wait(random.choice([0.0, 0.0, 0.5, 1.0]))
            raise random.choice([EndpointConnectionError, ConnectTimeoutError])(endpoint_url="https://dynamodb")
        self._environment.wait(random.choice([0.0, 0.0, 0.02, 2.0]))
        raise ReadTimeoutError(endpoint_url="https://dynamodb")


class DynamoDB:
    """DynamoDB's client."""

    exceptions = answers.Exceptions

    def __init__(self, environment: Environment, *, is_crowded: bool = False) -> None:
        self._environment = environment
        self._world: World = environment.world
        self._caller = _Caller(environment)
        self._is_crowded = is_crowded and environment.world.rates.crowd > 0

    def get_item(self, **parameters: Any) -> dict[str, Any]:
        _check("GetItem", parameters)
        return self._read("GetItem", parameters, lambda _: self._world.store.get(parameters, self._environment.random))

    def query(self, **parameters: Any) -> dict[str, Any]:
        _check("Query", parameters)
        environment = self._environment
        return self._read(
            "Query", parameters, lambda _: self._world.store.query(parameters, environment.random, environment.wait)
        )

    def get_paginator(self, operation: str) -> answers.Paginator:
        return {"query": answers.Paginator(self.query)}[operation]

    def transact_get_items(self, **parameters: Any) -> dict[str, Any]:
        _check("TransactGetItems", parameters)
        actions, random = parameters["TransactItems"], self._environment.random
        return self._read(
            "TransactGetItems",
            parameters,
            lambda met: {"Responses": self._world.store.get_together(actions, met, random)},
        )

    def put_item(self, **parameters: Any) -> dict[str, Any]:
        self._write("PutItem", "Put", parameters)
        return {}

    def update_item(self, **parameters: Any) -> dict[str, Any]:
        new = self._write("UpdateItem", "Update", parameters)
        return {"Attributes": new} if "ReturnValues" in parameters else {}

    def transact_write_items(self, TransactItems: Sequence[Mapping[str, Any]]) -> dict[str, Any]:  # noqa: N803 - AWS's
        _check("TransactWriteItems", {"TransactItems": TransactItems})
        world, random = self._world, self._environment.random
        token = self._environment.next_token()

        def effect(is_lost: bool, met: Interference) -> tuple[dict[str, Any], float]:
            if self._is_crowded and not world.is_calm:
                met = met._replace(is_crowded=True)
            rates = world.rates
            tearing = AT_ONCE if world.is_calm else Tearing(rates.torn, rates.torn_s if is_lost else _SHOWS_S)
            try:
                shows_s = world.store.transact(TransactItems, token, random, met, tearing)
            except ClientError as cancelled:
                self._trace("TransactWriteItems", {"TransactItems": TransactItems}, cancelled, is_lost)
                raise
            self._trace("TransactWriteItems", {"TransactItems": TransactItems}, shows_s, is_lost)
            return {}, shows_s

        return self._caller.call("TransactWriteItems", effect, writes=True)

    def _read(
        self, operation: str, parameters: Mapping[str, Any], read: Callable[[Interference], dict[str, Any]]
    ) -> dict[str, Any]:
        def effect(is_lost: bool, met: Interference) -> tuple[dict[str, Any], float]:
            try:
                answer = read(met)
            except ClientError as refused:
                self._trace(operation, parameters, refused, is_lost)
                raise
            self._trace(operation, parameters, answer, is_lost)
            return answer, self._world.scheduler.now_s

        return self._caller.call(operation, effect, writes=False)

    def _write(self, operation: str, kind: Any, parameters: Mapping[str, Any]) -> Any:
        _check(operation, parameters)

        def effect(is_lost: bool, met: Interference) -> tuple[Any, float]:
            try:
                if met.conflicts:
                    raise answers.error(operation, "TransactionConflictException")
                if met.throttles:
                    raise answers.error(operation, "ThrottlingException")
                new = self._world.store.write(operation, kind, parameters)
            except ClientError as refused:
                self._trace(operation, parameters, refused, is_lost)
                raise
            self._trace(operation, parameters, new, is_lost)
            return new, self._world.scheduler.now_s

        return self._caller.call(operation, effect, writes=True)

    def _trace(self, operation: str, parameters: Mapping[str, Any], answer: Any, is_lost: bool) -> None:
        if self._world.trace is not None:
            lost = " (answer lost)" if is_lost else ""
            self._world.say(f"  {self._environment.label}{lost} {call_in_words(operation, parameters, answer)}")


class Events:
    """EventBridge's client."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._caller = _Caller(environment)

    def put_events(self, Entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:  # noqa: N803 - AWS's
        world, random = self._environment.world, self._environment.random
        entries = [{**entry, "Time": entry["Time"].timestamp()} for entry in Entries]
        body = json.dumps({"Entries": entries}).encode()

        def effect(_: bool, __: Interference) -> tuple[dict[str, Any], float]:
            failing = 0.0 if world.is_calm else world.rates.bus_fails
            status, answer = world.bus.put_events(body, failing, random)
            if status != 200:
                raise answers.error("PutEvents", answer["__type"], answer["message"], status)
            return answer, world.scheduler.now_s

        return self._caller.call("PutEvents", effect, writes=True)


class Bucket:
    """S3's client."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._caller = _Caller(environment)

    def put_object(self, Bucket: str, Key: str, Body: bytes) -> dict[str, Any]:  # noqa: N803 - AWS's
        world = self._environment.world

        def effect(_: bool, __: Interference) -> tuple[dict[str, Any], float]:
            world.failures.put(f"{Bucket}/{Key}", Body)
            return {}, world.scheduler.now_s

        return self._caller.call("PutObject", effect, writes=True)


class Messages:
    """SQS's client."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._caller = _Caller(environment)

    def send_message(self, QueueUrl: str, MessageBody: str) -> dict[str, Any]:  # noqa: N803 - AWS's
        world = self._environment.world
        body = json.dumps({"QueueUrl": QueueUrl, "MessageBody": MessageBody}).encode()

        def effect(_: bool, __: Interference) -> tuple[dict[str, Any], float]:
            return world.queue.send(body), world.scheduler.now_s

        return self._caller.call("SendMessage", effect, writes=True)


def _is_sent_again(error: Exception) -> bool:
    if isinstance(error, _SENT_AGAIN):
        return True
    return isinstance(error, ClientError) and (
        error.response["Error"]["Code"] in _THROTTLES or error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
    )


# A full check of each of millions of requests would take a tenth of the run's time.
_known: set[Any] = set()


def _check(operation: str, parameters: Mapping[str, Any]) -> None:
    try:
        validate(operation, parameters, _known)
    except Invalid as refused:
        raise answers.invalid(operation, refused) from refused
