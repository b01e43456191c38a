"""Clients: backend services that record usage, try again until they get an answer, and query usage."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from metering.storage.usage_records import usage_from_item, usage_key

from tests.faults.evidence import Asked, Attempt, BatchAttempt, Sent
from tests.faults.workload import flawed
from tests.simulation.environment import Environment
from tests.simulation.functions import TIMEOUT_S, Build
from tests.simulation.scenario import Asking, Recording, Use
from tests.simulation.table import key_of
from tests.simulation.world import World
from tests.testing.payloads import payload

T = TypeVar("T", Attempt, BatchAttempt)

# Pauses before a client tries again.
_AGAIN_S = (0.0, 0.01, 0.5, 3.0, 20.0)
# How often a client repeats a page of a list that it got no answer for.
_PATIENCE = 4
# A list takes at least 256 calls. With this luck, it meets about as many faults as five calls of other functions.
_LUCK_OF_LISTS = 50.0
_VERSION = "v1.0.0"


class Pool:
    """The environments of one function: as many as there are requests at once, up to a limit."""

    def __init__(self, world: World, kind: str, function: Build, most: int) -> None:
        self._world = world
        self._timeout_s = TIMEOUT_S[kind]
        self._function = function
        self._most = most
        self._environments: list[Environment] = []

    def take(self, random: Random) -> Environment:
        """Take a free environment, or a new one. The calling process sleeps until there is one."""
        while True:
            alive = [each for each in self._environments if not each.is_dead]
            free = [each for each in alive if not each.is_busy]
            is_full = len(alive) >= self._most
            if free and (is_full or random.random() < self._world.rates.reuse):
                found = random.choice(free)
                found.is_busy = True
                return found
            if not is_full:
                made = Environment(self._world, self._timeout_s, self._function)
                made.is_busy = True
                self._environments = [*alive, made]
                return made
            self._world.scheduler.sleep(random.uniform(0.01, 0.5))


class Clients:
    """All clients, and the logs of their attempts and queries."""

    def __init__(self, world: World, functions: Mapping[str, Build]) -> None:
        self._world = world
        self._recorders = Pool(world, "record", functions["record"], world.rates.most_environments)
        self._answerers = Pool(world, "query", functions["query"], 2)
        self.attempts: list[Attempt] = []
        self.batches: list[BatchAttempt] = []
        self.asked: list[Asked] = []
        self.before: Callable[[Recording, Sequence[Use], str], None] = lambda *_: None
        """Called before each attempt with its request, the records that it sends, and its trace id."""

    def record(self, work: Recording) -> None:
        """Send the request until it has a final answer. Call it in a process of its own."""
        random = Random(f"{self._world.seed} client {work.id}")
        if work.after_expiry_s is not None:
            self._wait_for_expiry(work, work.after_expiry_s)
        left = list(range(len(work.uses)))
        numbers = iter(range(work.patience))

        def attempt(number: int) -> bool:
            chosen = list(left)
            if not chosen:
                return True
            done = self._attempt(work, number, [work.uses[place] for place in chosen])
            if work.trims and work.is_batch:
                left[:] = [place for place, is_done in zip(chosen, done, strict=True) if not is_done and place in left]
            return all(done)

        if work.impatient and work.patience > 1:
            self._world.scheduler.start(lambda: attempt(0))
            next(numbers)
            self._world.scheduler.sleep(random.choice([0.0, 0.005, 0.05, 2.0]))
        for number in numbers:
            if attempt(number):
                return
            self._world.scheduler.sleep(random.choice(_AGAIN_S))

    def ask(self, work: Asking) -> None:
        """Send the query once. A list is asked for page by page until its end, and logged as one query."""
        world = self._world
        random = Random(f"{world.seed} client {work.id}")
        began, began_at_s = world.scheduler.moment(), world.now_s
        environment, response = (
            self._list(work, random)
            if work.query == "usage.list"
            else self._ask(work, f"query {work.id}", work.parameters, random)
        )
        self.asked.append(
            Asked(
                number=work.id,
                query=work.query,
                organization=work.organization,
                began=began,
                ended=world.scheduler.moment(),
                began_at_s=began_at_s,
                ended_at_s=world.now_s,
                parameters=dict(work.parameters),
                **response,
                environment=environment.number,
            )
        )

    def _list(self, work: Asking, random: Random) -> tuple[Environment, dict[str, Any]]:
        """Walk the list to its end.

        Returns: the last environment, and the last response with the records of all pages.
        """
        records: list[Any] = []
        parameters = dict(work.parameters)
        patience = _PATIENCE
        for page in itertools.count():
            environment, response = self._ask(work, f"query {work.id}.{page}", parameters, random, luck=_LUCK_OF_LISTS)
            if response["status"] == 200:
                records += response["body"]["records"]
                if "nextCursor" not in response["body"]:
                    return environment, {**response, "body": {"records": records}}
                parameters["cursor"] = response["body"]["nextCursor"]
            elif response["status"] in (None, 503) and patience:
                patience -= 1
            else:
                return environment, response
            self._world.scheduler.sleep(random.choice(_AGAIN_S))
        raise AssertionError

    def _ask(
        self, work: Asking, label: str, parameters: Mapping[str, str], random: Random, luck: float = 1.0
    ) -> tuple[Environment, dict[str, Any]]:
        """Send the query once, with these parameters.

        Returns: the environment, and the response.
        """
        world = self._world
        environment = self._answerers.take(random)
        environment.luck = luck
        event = _query_event(work, parameters, label)
        world.say(lambda: f"{label} {work.query} {dict(parameters)} of {work.organization} to {environment.number}")
        answer = environment.invoke(event, label)
        if answer is not None and world.rates.answers_lost > random.random() and world.goes_wrong(label, "unanswered"):
            answer = None
        world.say(lambda: f"{label} is answered {_in_words(answer)}")
        return environment, _response(answer)

    def _wait_for_expiry(self, work: Recording, after_s: float) -> None:
        item = self._world.store.items.get(key_of(usage_key(work.organization, work.uses[0].key)))
        if item is not None:
            until_s = usage_from_item(item).expires_at + after_s
            self._world.scheduler.sleep(max(0.0, until_s - self._world.now_s))

    def _attempt(self, work: Recording, number: int, uses: Sequence[Use]) -> list[bool]:
        """Send these records once.

        Returns: for each record, whether it has a final answer.
        """
        world = self._world
        trace_id = f"request-{work.id}.{number}"
        random = Random(f"{world.seed} {trace_id}")
        environment = self._recorders.take(random)
        self.before(work, uses, trace_id)
        began, began_at_s = world.scheduler.moment(), world.now_s
        world.say(lambda: f"{trace_id} to {environment.number}: {', '.join(map(_use_in_words, uses))}")
        answer = environment.invoke(_event(work, number, uses, trace_id, random), trace_id)
        if (
            answer is not None
            and world.rates.answers_lost > random.random()
            and world.goes_wrong(trace_id, "unanswered")
        ):
            answer = None
        world.say(lambda: f"{trace_id} is answered {_in_words(answer)}")
        members = {
            "operation": work.id,
            "number": number,
            "phase": 0,
            "organization": work.organization,
            "trace_id": trace_id,
            "began": began,
            "ended": world.scheduler.moment(),
            "began_at_s": began_at_s,
            "ended_at_s": world.now_s,
            "environment": environment.number,
            **_response(answer),
        }
        if not work.is_batch:
            attempt = Attempt(key=uses[0].key, content=_content(uses[0]), **members)
            self._log(self.attempts, attempt, environment, is_open=not _is_final(attempt))
            return [_is_final(attempt)]
        records = tuple(Sent(use.key, _content(use), use.flaw is not None) for use in uses)
        batch = BatchAttempt(records=records, **members)
        answered = {each.index for each in batch.attempts if _is_final(each)}
        is_answered = batch.status not in (None, 503)
        done = [is_answered if use.flaw else place in answered for place, use in enumerate(uses)]
        self._log(self.batches, batch, environment, is_open=not all(done))
        return done

    def _log(self, log: list[T], attempt: T, environment: Environment, *, is_open: bool) -> None:
        """Log the attempt. An attempt without a final answer ends only with its last late effect."""
        place = len(log)
        log.append(attempt)

        def end() -> None:
            log[place] = replace(attempt, ended=self._world.scheduler.moment())

        if is_open and environment.last_effect_s > self._world.now_s:
            self._world.scheduler.at(environment.last_effect_s, end)


def _is_final(attempt: Attempt) -> bool:
    return attempt.status not in (None, 503)


def _content(use: Use) -> dict[str, Any]:
    content: dict[str, Any] = {"feature": use.feature, "quantity": use.quantity}
    return content if use.mark is None else {**content, "metadata": {"mark": use.mark}}


def _response(answer: Any) -> dict[str, Any]:
    if answer is None:
        return {"status": None, "headers": {}, "body": {}}
    return {"status": answer["statusCode"], "headers": answer["headers"], "body": json.loads(answer["body"])}


_SINGLE, _BATCH, _QUERY = (payload(f"http-{name}.json") for name in ("record", "record-batch", "feature-check"))


def _of_caller(base: dict[str, Any], organization: str, request_id: str) -> dict[str, Any]:
    context = base["requestContext"]
    claims = {**context["authorizer"]["jwt"]["claims"], "org_id": organization}
    return {**base, "requestContext": {**context, "requestId": request_id, "authorizer": {"jwt": {"claims": claims}}}}


def _event(work: Recording, number: int, uses: Sequence[Use], trace_id: str, random: Random) -> dict[str, Any]:
    records = [_raw(use, random) for use in uses]
    if work.is_batch:
        return {**_of_caller(_BATCH, work.organization, trace_id), "body": json.dumps({"records": records})}
    event = _of_caller(_SINGLE, work.organization, trace_id)
    headers = {name: value for name, value in event["headers"].items() if name.lower() != "idempotency-key"}
    if number % 2:
        headers["idempotency-key"] = records[0].pop("idempotencyKey")
    return {**event, "headers": headers, "body": json.dumps(records[0])}


def _raw(use: Use, random: Random) -> Any:
    """The record as the client sends it: the same content each time, with its members in any order."""
    members = {**_content(use), "idempotencyKey": use.key}
    if random.random() < 0.5:
        members = dict(reversed(members.items()))
    return members if use.flaw is None else flawed(members, use.flaw)


def _query_event(work: Asking, parameters: Mapping[str, str], request_id: str) -> dict[str, Any]:
    path = f"/saas/billing/{work.query.replace('.', '/')}/{_VERSION}"
    event = _of_caller(_QUERY, work.organization, request_id)
    context = {**event["requestContext"], "routeKey": f"GET {path}"}
    context["http"] = {**context["http"], "path": path}
    return {
        **event,
        "routeKey": f"GET {path}",
        "rawPath": path,
        "rawQueryString": urlencode(parameters, quote_via=quote),
        "requestContext": context,
    }


def _use_in_words(use: Use) -> str:
    mark = f" ({use.mark})" if use.mark else ""
    return f"{use.key}={use.feature}:{use.quantity}{mark}{' flawed' if use.flaw else ''}"


def _in_words(answer: Any) -> str:
    return "nothing" if answer is None else f"{answer['statusCode']} {answer['body'][:2000]}"
