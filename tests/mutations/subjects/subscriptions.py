"""Mutations of how other services' events change organizations."""

from tests.mutations.mutation import Edit, Mutation

SUBSCRIPTIONS = (
    Mutation(
        "stamps truncated to milliseconds",
        "The last writer wins, even by a microsecond.",
        Edit("stamp", "timespec='microseconds'", "timespec='milliseconds'"),
    ),
    Mutation(
        "an operator's change overtaken by the event it replaces",
        "An event that an operator has overwritten does not come back when it is delivered again.",
        Edit("stamped_by_hand", "if by_hand > latest else $stamp_after(...)"),
    ),
    Mutation(
        "an event from the far future accepted",
        "No event outranks all later ones.",
        Edit("event_moment", "if moment > now + $MAX_AHEAD:", "if False:"),
    ),
    Mutation(
        "an older change written over a newer one",
        "The later of two changes to a subscription stays.",
        Edit("write_change", 'stamps.get(...)["S"] < change.stamp', "True"),
    ),
    Mutation(
        "a change written over a concurrent one",
        "Two concurrent writers of one organization lose none of each other's changes.",
        Edit(
            "write_change",
            """
            elif "changed" in stored:
                condition, values[":before"] = "changed = :before", stored["changed"]
            else:
                condition = "attribute_exists(pk) AND attribute_not_exists(changed)"
            """,
            """
            else:
                condition = "attribute_exists(pk)"
            """,
        ),
    ),
    Mutation(
        "a subscription read without consistency",
        "A change compares with the stored subscription: a stale read would drop a change as outdated.",
        Edit("write_change", ", ConsistentRead=True"),
    ),
    Mutation(
        "a deleted organization stays active",
        "`org.deleted` sets the organization inactive, in any order of events.",
        Edit(
            "write_change",
            'if "status" not in newer:',
            """
            newer.pop("status", None)
            if True:
            """,
        ),
    ),
    Mutation(
        "an organization created over an existing one",
        "`org.created` creates an organization only if it is absent.",
        Edit(
            "write_change",
            """
            if change.key == $ORG_CREATED and stored is not None:
                return False
            """,
        ),
        Edit(
            "write_change",
            "if stored is not None and not newer:",
            "if stored is not None and not newer and change.key != $ORG_CREATED:",
        ),
        Edit(
            "write_change",
            '"#status = if_not_exists(...)"',
            '"#status = :active" if change.key == $ORG_CREATED else "#status = if_not_exists(...)"',
        ),
    ),
    Mutation(
        "a changed subscription sets its organization active",
        "Other services' events change only the subscription: an inactive organization stays inactive.",
        Edit("write_change", '"#status = if_not_exists(...)"', '"#status = :active"'),
    ),
    Mutation(
        "the last delivered of two simultaneous changes stays",
        "Of two simultaneous changes the one with the greater event id stays, in any order of delivery.",
        Edit("write_change", "< change.stamp", '.partition("#")[0] <= change.stamp.partition("#")[0]'),
    ),
    Mutation(
        "an older change dropped whole",
        "The last writer wins field by field: a field that only an older change has is not lost.",
        Edit(
            "write_change",
            '{name: value for name, value in change.fields.items() if stamps.get(...)["S"] < change.stamp}',
            'dict(change.fields) if max((at["S"] for at in stamps.values()), default="") < change.stamp else {}',
        ),
    ),
    Mutation(
        "the stamps of unchanged fields lost",
        "An older change never comes back, even after changes of other fields.",
        Edit("write_change", "stamps, **"),
    ),
    Mutation(
        "another plan's name shown",
        "A plan has its own name and never that of another plan.",
        Edit("plan_name", 'if stored["plan"]["S"] == plan else None'),
    ),
    Mutation(
        "an unknown subscription status stored",
        "An event that breaks the contract stores nothing.",
        Edit("subscription_status", "if status not in $SUBSCRIPTION_STATUSES:", "if False:"),
    ),
    Mutation(
        "a status in another case rejected",
        "A subscription's status is accepted in any case.",
        Edit("subscription_status", ".upper() if sent.isascii() else sent"),
    ),
    Mutation(
        "a status stored as it was spelt",
        "A subscription's status is stored and shown in upper case.",
        Edit("subscription_status", "return status", "return sent"),
    ),
    Mutation(
        "a malformed event dropped",
        "An event that breaks the contract goes to the queue, with the reason.",
        Edit("consume", "deps.queue.send_message(...)", "str(message)"),
    ),
    Mutation(
        "an operator's change not stamped",
        "An operator's change stays until a later change.",
        Edit("stamped_by_hand", '**{name: {"S": last} for name in changes}', '**{name: {"S": ""} for name in changes}'),
    ),
)
