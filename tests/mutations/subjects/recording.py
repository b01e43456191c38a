"""Mutations of how a single usage is recorded and counted once."""

from tests.mutations.mutation import Edit, Mutation

RECORDING = (
    Mutation(
        "the record's condition removed",
        "A usage counts once, however often it is sent.",
        Edit(
            "record_put",
            """
            "ConditionExpression": "attribute_not_exists(pk) OR expiresAt <= :now",
            "ExpressionAttributeValues": {":now": {"N": str(...)}},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            """,
        ),
        money=True,
    ),
    Mutation(
        "the condition's expiry branch removed",
        "A key is free again when its record has expired, even before TTL deletes the record.",
        Edit("record_put", "(pk) OR expiresAt <= :now", "(pk)"),
        Edit("record_put", '"ExpressionAttributeValues": {":now": {"N": str(...)}},'),
        money=True,
    ),
    Mutation(
        "the key freed a second late",
        "A key is free again in the second in which its record expires.",
        Edit("record_put", "OR expiresAt <= :now", "OR expiresAt < :now"),
        money=True,
    ),
    Mutation(
        "a record deleted while a request for its key can still commit",
        "A usage counts once, even if a late copy of its request commits after its key is free.",
        Edit("LATEST_COMMIT_S", "$LATEST_COMMIT_S = 20 * 60", "$LATEST_COMMIT_S = 0"),
        money=True,
    ),
    Mutation(
        "the count outside the transaction",
        "The record and its count commit together or not at all.",
        Edit(
            "commit_additions",
            "client.transact_write_items(...)",
            """
            client.transact_write_items(TransactItems=[action for action in actions if "Put" in action])
            for action in (action for action in actions if "Update" in action):
                client.update_item(**action["Update"])
            """,
        ),
        money=True,
    ),
    Mutation(
        "`total` set instead of added",
        "The total is the sum of all usages.",
        Edit("counter_update", '"ADD #total :quantity, #count :count"', '"ADD #count :count"'),
        Edit("counter_update", "SET {LISTED_IN} = :list", "SET {LISTED_IN} = :list, #total = :quantity"),
        Edit(
            "counter_update",
            'update["UpdateExpression"] = add',
            'update["UpdateExpression"] = f"{add} SET #total = :quantity"',
        ),
        money=True,
    ),
    Mutation(
        "the quantity counted as one",
        "The total is the sum of the quantities, not the number of usages.",
        Edit("counter_update", '{":quantity": {"N": str(...)}', '{":quantity": {"N": "1"}'),
        money=True,
    ),
    Mutation(
        "a request's own commit answered as a replay",
        "A retry inside the request answers a commit without a response as recorded.",
        Edit("match_record", "replayed=False, shard=stored.shard)", "replayed=True, shard=stored.shard)"),
        money=True,
    ),
    Mutation(
        "a new event id for each try",
        "One request has one event id, so that a retry inside the request finds its own commit.",
        Edit(
            "record_put",
            "$usage_item(usage, shard)",
            "$usage_item(dataclasses.replace(usage, event_id=str(uuid.uuid4())), shard)",
            imports="dataclasses, uuid",
        ),
        money=True,
    ),
    Mutation(
        "other content under a used key answered as a replay",
        "A key belongs to one content: other content under it is a conflict.",
        Edit(
            "match_record",
            """
            if stored.usage.fingerprint != usage.fingerprint:
                return None
            """,
        ),
        money=True,
    ),
    Mutation(
        "a replay answered with the new request's usage",
        "A replay answers with the stored record and the total of that record's billing period.",
        Edit("match_record", "return $Recorded(stored.usage, replayed=True", "return $Recorded(usage, replayed=True"),
        money=True,
    ),
    Mutation(
        "a conflict on the counter decided before the record",
        "A stored record decides, even if a conflict cancelled the transaction as well.",
        Edit(
            "apply_cancellation",
            "for stored in cancelled.stored:",
            "for stored in [] if cancelled.conflict else cancelled.stored:",
        ),
    ),
    Mutation(
        "a conflict on the record answered as a replay",
        "After a conflict on the record, the stored record decides whether the key is used.",
        Edit(
            "apply_cancellation",
            "batch.busy_keys |= {usage.idempotency_key for usage in cancelled.busy_records}",
            """
            for entry in batch.open:
                if entry.usage in cancelled.busy_records:
                    entry.outcome = $Recorded(entry.usage, replayed=True)
            """,
        ),
        money=True,
    ),
    Mutation(
        "a retry that no longer checks the key",
        "Each try checks again that the key is free: another request possibly used it meanwhile.",
        Edit("commit_step", "deps.table, additions)", "deps.table, additions, budget.conflicts > 0)"),
        Edit("commit_additions", "Sequence[$Addition]", "Sequence[$Addition], are_free: bool = False"),
        Edit(
            "commit_additions",
            "client.transact_write_items(...)",
            """
            for put in (action["Put"] for action in actions if are_free and "Put" in action):
                del put["ConditionExpression"], put["ExpressionAttributeValues"]
            client.transact_write_items(...)
            """,
        ),
        money=True,
    ),
    Mutation(
        "a conflict on the record changes the shard",
        "A counter spreads over more shards only after a conflict on the counter alone.",
        Edit(
            "apply_cancellation",
            """
            if cancelled.busy_records:
                return
            """,
        ),
    ),
    Mutation(
        "a conflict on the counter keeps the shard",
        "After a conflict on its counter a request adds to another shard.",
        Edit("pack_transaction", "choose_shard(...) if limit is None else $FIRST_SHARD", "$FIRST_SHARD"),
    ),
    Mutation(
        "a throttled item not tried again",
        "A throttled transaction is tried again until the deadline.",
        Edit("cancellation", "or code in $BUSY_REASONS"),
    ),
    Mutation(
        "a record read without consistency",
        "Once acknowledged, a record is found under its key.",
        Edit("read_record", "$read_item(...)", 'client.get_item(TableName=table, Key=key).get("Item")'),
        money=True,
    ),
    Mutation(
        "an expired record acknowledged",
        "An expired record acknowledges nothing, even if the organization is not allowed to record anything new.",
        Edit("has_expired", "return usage.expires_at <= $to_epoch_s(now)", "return False"),
        money=True,
    ),
    Mutation(
        "the total read without consistency",
        "Every total includes all acknowledged usage.",
        Edit("query_counters", "ConsistentRead=True,"),
        money=True,
    ),
    Mutation(
        "the total read from the first shard",
        "The total is the sum of all shards.",
        Edit("first_page_with_item", "self.total + $counter_total(item)", "self.total or $counter_total(item)"),
        money=True,
    ),
    Mutation(
        "an inactive organization allowed to record",
        "An inactive organization records nothing new.",
        Edit("terms_of", "if not organization.active:", "if False:"),
        money=True,
    ),
    Mutation(
        "the organization's state decided before the key",
        "A stored usage is acknowledged, even if its organization has become inactive.",
        Edit(
            "choose_usages",
            """
            if entry.terms.problem is not None:
                continue
            """,
            """
            if entry.terms.problem is not None:
                entry.outcome = entry.terms.problem
                continue
            """,
        ),
        money=True,
    ),
)
