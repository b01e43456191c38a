"""Shapes of scenarios: each looks for one kind of failure. A seed chooses the shape and everything in it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

from metering.storage.usage_records import LATEST_COMMIT_S

from tests.faults.workload import NEWCOMER
from tests.simulation.draft import Draft, terms
from tests.simulation.fault_rates import FATES, drawn
from tests.simulation.scenario import Recording, Scenario

_MONTH_END = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
_DAY_S = 86_400.0
_HOUR_S = 3_600.0
# Usual pauses between the starts of two works. Cached values expire after a minute.
_GAPS_S = (0, 0, 0, 0.004, 0.02, 0.5, 5, 40, 61, 130)


def scenario(seed: int, shape: str | None = None) -> Scenario:
    """The scenario of this seed. Without `shape`, the seed chooses the shape."""
    random = Random(f"scenario {seed}")
    chosen = random.choice(_CHOICE)
    return SHAPES[shape or chosen](seed, random)


def _ordinary(seed: int, random: Random) -> Scenario:
    """Single requests and batches share keys while limits and states change, around the end of a month."""
    starts_at_s = _MONTH_END - random.choice([0.05, 1, 5, 20, 70, 130, 400, 3000, 10**6]) * random.uniform(0.5, 1.5)
    draft = Draft(
        random,
        starts_at_s,
        drawn(random),
        organizations=random.choice([1, 1, 2, 3]),
        features=random.choice([1, 1, 2, 3, 4]),
    )
    draft.flaws = random.choice([0, 0, 0.03])
    if random.random() < 0.15:
        # This organization exists only after an action creates it, if one does.
        draft.organizations.append(NEWCOMER)
    if random.random() < 0.3:
        _tighten(draft)
    at_s, size = 0.0, random.choice([1, 3, 5, 8])
    for _ in range(random.choice([5, 10, 20, 40])):
        at_s += random.choice(_GAPS_S)
        if random.random() < 0.03:
            at_s += random.choice([_HOUR_S, 80_000, _DAY_S, 40 * _DAY_S])
        _act(draft, at_s, size)
    return draft.scenario(seed, "ordinary", reject_unknown_features=random.random() < 0.3)


def _act(draft: Draft, at_s: float, size: int, *, actions: float = 0.12) -> None:
    """Add one random work: an action, with the chance `actions`, or a query, a single request or a batch."""
    chance = draft.random.random()
    if chance < actions:
        draft.do(at_s, draft.action(at_s))
    elif chance < actions + 0.1:
        draft.ask(at_s)
    elif chance < 0.5:
        draft.single(at_s)
    else:
        draft.batch(at_s, draft.random.randint(1, size))


def _tighten(draft: Draft) -> None:
    """Make most usage reach a hard limit, and keys often change their content."""
    draft.kinds, draft.limits, draft.quantities = (
        ("hard", "hard", "hard", "soft", "none"),
        (3, 4, 5, 6, 8),
        (1, 1, 2, 3),
    )
    draft.changes = 0.4
    draft.first += [draft.plan(plan) for plan in draft.plans]


def _frozen(seed: int, random: Random) -> Scenario:
    """Environments idle for minutes to hours, and their cached values become outdated."""
    rates = replace(
        drawn(random),
        frozen=random.choice([0.5, 0.97, 1, 1]),
        steps_back=random.random() < 0.5,
        most_environments=random.choice([2, 3, 4]),
    )
    starts_at_s = _MONTH_END - random.uniform(5, 20) * _DAY_S
    draft = Draft(random, starts_at_s, rates, organizations=random.choice([1, 1, 2]), features=random.choice([1, 2, 3]))
    draft.limits = (3, 5, 8, 12)
    at_s = 0.0
    for _ in range(random.randint(2, 6)):
        for _ in range(random.randint(1, 6)):
            at_s += random.choice([0, 0.01, 0.5, 5])
            _act(draft, at_s, 4, actions=0.05)
        at_s += random.choice([1, 30, 70])
        for _ in range(random.randint(1, 2)):
            draft.do(at_s, draft.action(at_s))
        at_s += random.choice([30, 70, 300, _HOUR_S, 5 * _HOUR_S, 20 * _HOUR_S])
    for _ in range(random.randint(2, 8)):
        at_s += random.choice([0, 0.01, 0.5, 5])
        _act(draft, at_s, 4, actions=0.0)
    return draft.scenario(seed, "frozen")


def _fresh(seed: int, random: Random) -> Scenario:
    """Environments that read a plan without a limit write a counter's first usage seconds to hours after it has one."""
    rates = replace(drawn(random), frozen=random.choice([0, 0.5, 1]), most_environments=random.choice([2, 3, 4]))
    draft = Draft(random, _MONTH_END - 10 * _DAY_S, rates, organizations=random.choice([1, 2]), features=2)
    late, other = draft.features
    for plan in draft.plans:
        draft.first.append(draft.plan(plan, terms=terms("none", 0)))
    at_s = 0.0
    for _ in range(random.randint(3, 8)):
        at_s += random.choice([0, 0.01, 0.5, 20])
        draft.batch(at_s, random.randint(1, 3), features=[other])
    at_s += random.choice([1, 30, 70])
    limit = random.choice([3, 5, 8])
    for plan in draft.plans:
        draft.do(at_s, draft.plan(plan, only=late, terms=terms("hard", limit)))
    at_s += random.choice([1, 20, 50, 65, 70, _HOUR_S, 5 * _HOUR_S])
    draft.forget_contents()
    for _ in range(random.randint(5, 20)):
        at_s += random.choice([0, 0, 0.01, 0.3, 5, 40])
        features = [late] if random.random() < 0.8 else [other]
        if random.random() < 0.5:
            draft.single(at_s, features=features)
        else:
            draft.batch(at_s, random.randint(1, 4), features=features)
        if random.random() < 0.1:
            draft.ask(at_s)
    return draft.scenario(seed, "fresh")


def _month_end(seed: int, random: Random) -> Scenario:
    """A soft limit becomes hard in a month's last seconds: it holds from the next month's first record on."""
    rates = replace(drawn(random), skew_s=random.choice([0, 0.3, 2]))
    before_s = random.uniform(3, 30)
    draft = Draft(random, _MONTH_END - before_s, rates, organizations=1, features=random.choice([1, 2]))
    draft.quantities = (1, 1, 2, 3)
    draft.changes = 0.4
    first = draft.features[0]
    for plan in draft.plans:
        draft.first.append(draft.plan(plan, only=first, terms=terms(random.choice(["none", "soft"]), 5)))
    for _ in range(4):
        draft.batch(random.uniform(0, before_s - 0.1), random.randint(1, 3))
    at_s = before_s - random.uniform(2.5, 2.5 + 2) * max(rates.skew_s, 0.1)
    for plan in draft.plans:
        draft.do(max(0.0, at_s), draft.plan(plan, only=first, terms=terms("hard", random.choice([3, 5]))))
    at_s = before_s - random.uniform(-1, 0.02)
    for _ in range(random.choice([5, 10, 20])):
        at_s += random.choice([0, 0.01, 0.3, 2, 5])
        if random.random() < 0.4:
            draft.single(at_s)
        else:
            draft.batch(at_s, random.randint(1, 5))
        if random.random() < 0.1:
            draft.ask(at_s)
    return draft.scenario(seed, "month end")


def _expiry(seed: int, random: Random) -> Scenario:
    """Clients reuse keys within seconds of the records' expiry."""
    rates = drawn(random)
    starts_at_s = _MONTH_END - random.choice([0.5, 3, 10]) * _DAY_S
    draft = Draft(random, starts_at_s, rates, organizations=random.choice([1, 2]), features=random.choice([1, 2]))
    draft.keys = draft.keys[:6]
    at_s = 0.0
    for _ in range(random.randint(2, 4)):
        for _ in range(random.randint(2, 6)):
            at_s += random.choice([0, 0.02, 0.5, 5])
            _act(draft, at_s, 3, actions=0.05)
        at_s += 60
        for _ in range(random.randint(1, 5)):
            found = draft.former()
            if found is None:
                continue
            organization, use = found
            after_s = random.choice([-1.001, -0.01, -0.001, 0, 0.001, 0.5, 1, 2]) + random.uniform(-1, 1) * rates.skew_s
            uses = [use] if random.random() < 0.5 else [use, draft.use(organization), draft.use(organization)]
            is_batch = len(uses) > 1 or random.random() < 0.5
            draft.send(at_s, organization, uses, is_batch=is_batch, after_expiry_s=after_s)
        sent_s = [work.at_s for work in draft.works if isinstance(work, Recording)] or [at_s]
        for _ in range(random.choice([0, 0, 3])):
            # Too early if a copy of a request from before the expiry may still commit.
            draft.sweep(random.choice(sent_s) + _DAY_S + random.uniform(5, 16))
        at_s += _DAY_S - random.choice([0, 30, 61])
        if random.random() < 0.5:
            draft.sweep(at_s + LATEST_COMMIT_S + random.choice([0, 65, 120]))
    return draft.scenario(seed, "expiry", retention_days=1)


def _wide(seed: int, random: Random) -> Scenario:
    """Overlapping batches of up to 100 records of many features."""
    draft = Draft(
        random,
        _MONTH_END - random.choice([2, 100, 10**6]),
        drawn(random),
        organizations=random.choice([1, 2]),
        features=2,
    )
    draft.features += [f"w{number}" for number in range(random.choice([10, 30, 60]))]
    draft.keys = [f"k{number}" for number in range(random.choice([60, 150]))]
    draft.first += [draft.plan(plan) for plan in draft.plans]
    at_s = 0.0
    for _ in range(random.randint(2, 5)):
        at_s += random.choice([0, 0.01, 0.3, 5, 61])
        if random.random() < 0.7:
            draft.batch(at_s, random.randint(50, 100))
        else:
            _act(draft, at_s, 8)
    return draft.scenario(seed, "wide")


def _spread(seed: int, random: Random) -> Scenario:
    """Counters with many writers spread over shards and pages while limits come and go."""
    rates = replace(
        drawn(random),
        crowd=random.choice([0.4, 0.6, 0.6, 0.8]),
        crowd_throttles=random.choice([0.3, 0.7]),
        most_environments=random.choice([2, 3, 4]),
    )
    draft = Draft(
        random, _MONTH_END - random.choice([50, 10**6]), rates, organizations=1, features=random.choice([1, 2])
    )
    draft.kinds = ("none", "none", "soft", "hard", "absent")
    # The first page alone reaches some of these limits; others need the sum of all pages.
    draft.limits = (5, 12, 30, 60, 100)
    draft.first += [draft.plan(plan) for plan in draft.plans]
    draft.keys = [f"k{number}" for number in range(40)]
    at_s = 0.0
    for _ in range(random.choice([10, 20, 30])):
        at_s += random.choice([0, 0, 0.01, 0.05, 0.5, 1, 3, 30])
        if random.random() < 0.02:
            at_s += random.choice([70, _HOUR_S])
        _act(draft, at_s, random.choice([1, 4]), actions=0.08)
    return draft.scenario(seed, "spread")


def _turning(seed: int, random: Random) -> Scenario:
    """Limits become hard and soft again while plans are cached, on new counters with many writers."""
    turn = random.choice([_turn_plan, _turn_plan, _turn_own_limit, _turn_subscription, _move, _move])
    rates = replace(
        drawn(random),
        crowd=random.choice([0.3, 0.6, 0.8]),
        crowd_throttles=0.2,
        most_environments=random.choice([2, 3, 4]),
        reuse=0.5,
    )
    organizations = 1
    if turn is _move:
        # Slow calls let an organization and its plan change between two reads. A second organization may have cached
        # the plan.
        rates = rates.with_fates(dict(zip(FATES, rates.fates, strict=True)) | {"slow": 0.2})
        organizations = random.choice([1, 2, 2])
    starts_at_s = _MONTH_END - random.choice([30, 200, 10**6])
    draft = Draft(random, starts_at_s, rates, organizations=organizations, features=random.choice([1, 2, 3]))
    draft.quantities = (1, 1, 2, 3)
    draft.keys = [f"k{number}" for number in range(60)]
    organization = draft.organizations[0]
    if turn is _move:
        draft.plans = ["pro", "free"]
        draft.limits = range(3, 30)
        draft.first += [draft.plan(plan) for plan in draft.plans]
        draft.first += [draft.subscription(each, -1800.0) for each in draft.organizations]
    elif turn is _turn_subscription:
        draft.plans = ["pro", "free"]
        draft.first.append(draft.plan("pro", terms=terms("none", 0)))
        draft.first.append(draft.plan("free", terms=terms("hard", random.choice([3, 5, 8]))))
    elif turn is _turn_own_limit:
        draft.first += [draft.plan(plan, terms=terms("hard", 5)) for plan in draft.plans]
        draft.first += [draft.own_limit(organization, feature, "unlimited") for feature in draft.features]
    else:
        kind = random.choice(["none", "soft", "hard"])
        draft.first += [draft.plan(plan, terms=terms(kind, 5)) for plan in draft.plans]
    at_s = 0.0
    used: list[str] = []
    for _ in range(random.randint(2, 5)):
        # A request for another feature caches the terms of all features, and creates none of these counters.
        for _ in range(random.randint(1, 3)):
            at_s += random.choice([0, 0.01, 1])
            draft.single(at_s, features=used or None)
        at_s += random.choice([0.1, 1, 10, 30, 61])
        if turn is _move and random.random() < 0.5:
            # All cached values have expired, so that the next reads happen during the change.
            at_s += 62
        feature = random.choice(draft.features)
        turn(draft, at_s, organization, feature)
        used.append(feature)
        for _ in range(random.randint(2, 8)):
            at_s += random.choice([0, 0.01, 0.3, 3, 20])
            if random.random() < 0.6:
                draft.single(at_s, features=[feature])
            else:
                draft.batch(at_s, random.randint(1, 3), features=draft.features)
            if random.random() < 0.1:
                draft.ask(at_s)
        at_s += random.choice([0, 0, 5, 61, 130])
    return draft.scenario(seed, "turning")


def _turn_plan(draft: Draft, at_s: float, _: str, feature: str) -> None:
    kind = draft.random.choice(["hard", "hard", "none", "soft", "absent"])
    drawn_terms = {} if kind == "absent" else terms(kind, draft.random.choice([3, 5, 8]))
    for plan in draft.plans:
        draft.do(at_s, draft.plan(plan, only=feature, terms=drawn_terms))


def _turn_own_limit(draft: Draft, at_s: float, organization: str, feature: str) -> None:
    possible: list[int | str] = [3, 5, 8, "plan", "unlimited"]
    draft.do(at_s, draft.own_limit(organization, feature, draft.random.choice(possible)))


def _turn_subscription(draft: Draft, at_s: float, organization: str, _: str) -> None:
    draft.do(at_s, draft.subscription(organization, at_s, draft.random.choice(draft.plans)))


def _move(draft: Draft, at_s: float, organization: str, feature: str) -> None:
    """The organization changes its plan, and one of the plans changes shortly before or after."""
    random = draft.random
    changed = draft.plan(random.choice(draft.plans), only=feature)
    gap_s = random.choice([0, 0.02, 0.1, 0.1, 0.3, 1, 5, 30])
    moves_first = random.random() < 0.5
    moved_at_s = at_s if moves_first else at_s + gap_s
    draft.do(moved_at_s, draft.subscription(organization, moved_at_s))
    draft.do(at_s + gap_s if moves_first else at_s, changed)
    for _ in range(random.randint(1, 4)):
        draft.single(max(0.0, at_s + random.uniform(-1, 0.2)), organization, [feature])


def _dense(seed: int, random: Random) -> Scenario:
    """One request after the other, each compared with the result of sending its records one by one."""
    rates = drawn(random)
    fates = {
        "conflict": random.choice([0.1, 0.3, 0.6]),
        "item throttled": random.choice([0, 0.2, 0.3]),
        "late": random.choice([0, 0.1]),
        "answer lost": random.choice([0, 0.1, 0.2]),
        "not sent": random.choice([0, 0.05, 0.1]),
    }
    rates = replace(
        rates.with_fates(fates), skew_s=0.0, steps_back=False, answers_lost=0.0, crowd=random.choice([0, 0, 0.3])
    )
    draft = Draft(random, _MONTH_END - 10 * _DAY_S, rates, organizations=1, features=random.choice([2, 3]))
    draft.kinds, draft.limits, draft.quantities = (
        ("hard", "hard", "hard", "soft", "none", "absent"),
        (3, 4, 5, 6, 8),
        (1, 1, 2, 3, 4),
    )
    draft.changes = 0.4
    draft.keys = draft.keys[: random.choice([2, 3, 4, 6])]
    draft.first += [draft.plan(plan) for plan in draft.plans]
    (organization,) = draft.organizations
    for number in range(random.randint(2, 6)):
        if random.random() < 0.4:
            draft.do(40, draft.action(0.0))
        # Some keys are new; others may meet a stored record.
        uses = [draft.use(organization) for _ in range(random.randint(2, 8))]
        uses = [use if random.random() < 0.6 else replace(use, key=f"{use.key}n{number}") for use in uses]
        is_batch = random.random() < 0.8
        # More than a minute, so that every environment reads the last change.
        gap_s = 70 if random.random() < 0.8 else 32 * _DAY_S
        draft.send(gap_s, organization, uses if is_batch else uses[:1], is_batch=is_batch, patience=1, impatient=False)
    return draft.scenario(seed, "dense", reject_unknown_features=random.random() < 0.3, is_sequential=True)


def _events(seed: int, random: Random) -> Scenario:
    """Several writers change plans, states and subscriptions all the time, while clients record some usage."""
    draft = Draft(random, _MONTH_END - 10**6, drawn(random), organizations=random.choice([2, 4, 5]), features=2)
    draft.plans = draft.plans[:1] if random.random() < 0.5 else ["pro", "free"]
    draft.first = [draft.plan(plan) for plan in draft.plans]
    draft.first += [draft.subscription(organization, -3600.0) for organization in draft.organizations]
    at_s = 0.0
    for _ in range(random.randint(3, 8)):
        at_s += random.choice([0, 0.02, 1])
        draft.batch(at_s, random.randint(1, 6))
    for _ in range(random.randint(5, 25)):
        at_s += random.choice([0, 0, 0.01, 0.1, 1, 5, 65])
        if random.random() < 0.3:
            draft.batch(at_s, random.randint(1, 3))
        elif random.random() < 0.5:
            draft.do(at_s, draft.plan(random.choice(draft.plans), only=random.choice(draft.features)))
        else:
            draft.do(at_s, draft.action(at_s))
    return draft.scenario(seed, "events")


_LATER = (*("usage.summary", "feature.check") * 4, "usage.list")


def _torn(seed: int, random: Random) -> Scenario:
    """Commits without an answer become visible item by item, while clients send the same keys again."""
    fates = {
        "answer lost": random.choice([0.15, 0.3]),
        "late": random.choice([0, 0.1]),
        "killed after": random.choice([0, 0.03]),
        "conflict": random.choice([0, 0.1]),
        "slow": 0.05,
    }
    rates = replace(
        drawn(random).with_fates(fates),
        torn=1.0,
        # The longest outlasts the retry budget of some requests that wait.
        torn_s=random.choice([0.2, 2, 15]),
        most_environments=random.choice([2, 3, 4]),
    )
    starts_at_s = _MONTH_END - random.choice([20, 10**6])
    draft = Draft(random, starts_at_s, rates, organizations=1, features=random.choice([1, 2, 4]))
    _tighten(draft)
    draft.changes = 0.2
    draft.keys = draft.keys[: random.choice([2, 4, 6])]
    at_s = 0.0
    for _ in range(random.randint(4, 16)):
        at_s += random.choice([0, 0, 0.004, 0.05, 0.5, 2])
        if random.random() < 0.1:
            at_s += 61
        if random.random() < 0.35:
            draft.single(at_s, impatient=random.random() < 0.3)
        else:
            draft.batch(at_s, random.randint(1, 4), impatient=random.random() < 0.3)
        if random.random() < 0.3:
            # Every later total and list must include a record that a query has shown.
            shown_s = at_s + random.choice([0.02, 0.2, 1])
            draft.ask(shown_s, "usage.get")
            draft.ask(shown_s + random.choice([0.05, 0.3]), random.choice(_LATER))
    return draft.scenario(seed, "torn")


def _partial(seed: int, random: Random) -> Scenario:
    """DynamoDB omits some of a cancelled transaction's reasons."""
    found = _ordinary(seed, random)
    return replace(found, shape="partial", rates=replace(found.rates, partial=random.choice([0.2, 0.5])))


SHAPES: Mapping[str, Callable[[int, Random], Scenario]] = {
    "ordinary": _ordinary,
    "frozen": _frozen,
    "fresh": _fresh,
    "month end": _month_end,
    "expiry": _expiry,
    "wide": _wide,
    "spread": _spread,
    "turning": _turning,
    "dense": _dense,
    "torn": _torn,
    "events": _events,
    "partial": _partial,
}
# The weight of each shape in a seed's choice.
_OFTEN = {
    "ordinary": 8,
    "frozen": 3,
    "fresh": 2,
    "month end": 2,
    "expiry": 2,
    "wide": 1,
    "spread": 3,
    "turning": 3,
    "dense": 5,
    "torn": 4,
    "events": 2,
    "partial": 1,
}
_CHOICE = tuple(shape for shape, times in _OFTEN.items() for _ in range(times))
