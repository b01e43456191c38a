"""Mutations of how others' events change organizations."""

from tests.mutations.mutation import Edit, Mutation

SUBSCRIPTIONS = (
    Mutation(
        "stamps cut to milliseconds",
        "The last writer wins, also if the one before it was as little as a microsecond earlier.",
        (Edit("stamp", "timespec='microseconds'", "timespec='milliseconds'"),),
    ),
    Mutation(
        "what an operator sets overtaken by what it replaces",
        "An event that was overwritten by hand does not come back when it is delivered again.",
        (Edit("stamped_by_hand", "if by_hand > latest else $stamp_after(...)"),),
    ),
    Mutation(
        "an event of another century believed",
        "No event outranks for ever all that come after it.",
        (Edit("event_moment", "if moment > now + $MOST_AHEAD:", "if False:"),),
    ),
    Mutation(
        "an older change written over a newer one",
        "Of two changes to a subscription the later one stays.",
        (Edit("write_change", 'stamps.get(...)["S"] < change.stamp', "True"),),
    ),
    Mutation(
        "a change written over one that overtook it",
        "Two writers of one organization lose nothing of each other.",
        (
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
    ),
    Mutation(
        "a subscription read without consistency",
        "A change rests on what is stored: a stale read would be tried in vain, and drop a change as outdated.",
        (Edit("write_change", ", ConsistentRead=True"),),
    ),
    Mutation(
        "an organization that was deleted stays active",
        "`org.deleted` sets the organization inactive, in whatever order events come.",
        (
            Edit(
                "write_change",
                'if "status" not in newer:',
                """
                newer.pop("status", None)
                if True:
                """,
            ),
        ),
    ),
    Mutation(
        "an organization created over one that is there",
        "`org.created` creates an organization only if it is absent.",
        (
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
    ),
    Mutation(
        "a changed subscription sets its organization active",
        "What others say changes the subscription and nothing else: who was set inactive stays so.",
        (Edit("write_change", '"#status = if_not_exists(...)"', '"#status = :active"'),),
    ),
    Mutation(
        "of two changes of one moment the last to come stays",
        "Of two changes of one moment the one with the greater event id stays, in whatever order they come.",
        (Edit("write_change", "< change.stamp", '.partition("#")[0] <= change.stamp.partition("#")[0]'),),
    ),
    Mutation(
        "an older change dropped whole",
        "The last writer wins field by field: what only an older change says is not lost.",
        (
            Edit(
                "write_change",
                '{name: value for name, value in change.fields.items() if stamps.get(...)["S"] < change.stamp}',
                'dict(change.fields) if max((at["S"] for at in stamps.values()), default="") < change.stamp else {}',
            ),
        ),
    ),
    Mutation(
        "the stamps of what a change does not say forgotten",
        "An older change never comes back, whatever other changes came in between.",
        (Edit("write_change", "stamps, **"),),
    ),
    Mutation(
        "the name of another plan shown",
        "The name of another plan is no name of this one.",
        (Edit("plan_name", 'if stored["plan"]["S"] == plan else None'),),
    ),
    Mutation(
        "a subscription in a state that there is not",
        "Nothing is stored of an event that breaks the contract.",
        (Edit("subscription_status", "if status not in $SUBSCRIPTION_STATUSES:", "if False:"),),
    ),
    Mutation(
        "a state in another case rejected",
        "A subscription's status counts in whatever case the event spells it.",
        (Edit("subscription_status", ".upper() if sent.isascii() else sent"),),
    ),
    Mutation(
        "a state stored as it was spelt",
        "A subscription's status is stored and told in upper case.",
        (Edit("subscription_status", "return status", "return sent"),),
    ),
    Mutation(
        "a malformed event dropped",
        "An event that breaks the contract is in the queue, with the reason.",
        (Edit("consume", "deps.queue.send_message(...)", "str(message)"),),
    ),
    Mutation(
        "what is changed by hand not stamped",
        "What an operator sets stays until something later is said.",
        (
            Edit(
                "stamped_by_hand",
                '**{name: {"S": last} for name in changes}',
                '**{name: {"S": ""} for name in changes}',
            ),
        ),
    ),
)
