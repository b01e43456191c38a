"""The plan, and the item about all plans.

pk = plan#<plan>  sk = plan      `features` is one map, so that a plan changes as a whole
pk = features     sk = features  `known` has every feature of any plan, `plans` has the plans' ids,
                                 `version` grows whenever a plan is written
"""

from collections.abc import Iterable, Mapping
from typing import Any

from metering.model.plans import Entitlement, Plan
from metering.storage.attributes import Item, limit_attribute, limit_in
from metering.storage.signals import MalformedItem

PLAN_PREFIX = "plan#"
FEATURES_KEY: Item = {"pk": {"S": "features"}, "sk": {"S": "features"}}


def plan_key(plan: str) -> Item:
    """Return the key of the plan."""
    return {"pk": {"S": f"{PLAN_PREFIX}{plan}"}, "sk": {"S": "plan"}}


def plan_item(plan: Plan) -> Item:
    """Return the plan as it is stored."""
    features = {name: {"M": _entitlement_map(entitlement)} for name, entitlement in plan.features.items()}
    return {**plan_key(plan.id), "name": {"S": plan.name}, "features": {"M": features}}


def plan_from_item(item: Mapping[str, Any]) -> Plan:
    """Return the plan that an item, or its image in the stream, stores.

    Raises:
        MalformedItem: the item is not in the form that `plan_item` writes.
    """
    try:
        features = {name: _entitlement(stored["M"]) for name, stored in item["features"]["M"].items()}
        return Plan(item["pk"]["S"].removeprefix(PLAN_PREFIX), item["name"]["S"], features)
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedItem(f"an attribute of the plan is missing or malformed: {error}") from error


def known_features(item: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the features that any plan has, from the item at FEATURES_KEY."""
    return _texts(item, "known")


def known_plans(item: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the ids of all plans, from the item at FEATURES_KEY."""
    return _texts(item, "plans")


def _texts(item: Mapping[str, Any] | None, name: str) -> frozenset[str]:
    stored: Iterable[str] = (item or {}).get(name, {}).get("SS", ())
    return frozenset(stored)


def _entitlement_map(entitlement: Entitlement) -> Item:
    stored: Item = {
        "limit": limit_attribute(entitlement.limit),
        "enforcement": {"S": "hard" if entitlement.hard else "soft"},
        "warnAt": {"L": [{"N": str(percentage)} for percentage in entitlement.warn_at]},
    }
    texts = {"unit": entitlement.unit, "upgradeUrl": entitlement.upgrade_url}
    return stored | {name: {"S": value} for name, value in texts.items() if value is not None}


def _entitlement(stored: Mapping[str, Any]) -> Entitlement:
    return Entitlement(
        limit=limit_in(stored["limit"]),
        unit=stored["unit"]["S"] if "unit" in stored else None,
        hard=stored["enforcement"]["S"] == "hard",
        warn_at=tuple(int(percentage["N"]) for percentage in stored["warnAt"]["L"]),
        upgrade_url=stored["upgradeUrl"]["S"] if "upgradeUrl" in stored else None,
    )
