"""Mutations of how a single record is counted once."""

from tests.mutations.mutation import Edit, Mutation

RECORDING = (
    Mutation(
        "the record's condition removed",
        "A usage counts once, however often it is sent.",
        (
            Edit(
                "record_put",
                """
                "ConditionExpression": "attribute_not_exists(pk) OR expiresAt <= :now",
                "ExpressionAttributeValues": {":now": {"N": str(...)}},
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                """,
            ),
        ),
        money=True,
    ),
    Mutation(
        "the condition's expiry branch removed",
        "A key is free again when its record has expired, also while TTL has not deleted it.",
        (
            Edit("record_put", "(pk) OR expiresAt <= :now", "(pk)"),
            Edit("record_put", '"ExpressionAttributeValues": {":now": {"N": str(...)}},'),
        ),
        money=True,
    ),
    Mutation(
        "the key freed a second late",
        "A key is free again from the very second of its record's expiry on.",
        (Edit("record_put", "OR expiresAt <= :now", "OR expiresAt < :now"),),
        money=True,
    ),
    Mutation(
        "a record deleted while a request for its key may still land",
        "A usage counts once, also where a copy of its request lands after its key is free and its record is gone.",
        (Edit("LATEST_COMMIT_S", "$LATEST_COMMIT_S = 20 * 60", "$LATEST_COMMIT_S = 0"),),
        money=True,
    ),
    Mutation(
        "count outside the transaction",
        "Record and count land together or not at all.",
        (
            Edit(
                "commit",
                "client.transact_write_items(...)",
                """
                client.transact_write_items(TransactItems=[action for action in actions if "Put" in action])
                for action in (action for action in actions if "Update" in action):
                    client.update_item(**action["Update"])
                """,
            ),
        ),
        money=True,
    ),
    Mutation(
        "`total` set instead of added",
        "The total is the sum of all usages.",
        (
            Edit(
                "counter_update", '"ADD #total :quantity, #count :count"', '"ADD #count :count SET #total = :quantity"'
            ),
            Edit("counter_update", '{add} SET #hard = :hard"', '{add}, #hard = :hard"'),
        ),
        money=True,
    ),
    Mutation(
        "the quantity counted as one",
        "The total is the sum of the quantities, not the number of usages.",
        (Edit("counter_update", '{":quantity": {"N": str(...)}', '{":quantity": {"N": "1"}'),),
        money=True,
    ),
    Mutation(
        "own commit answered as a replay",
        "A commit whose answer was lost is answered as recorded by the retry inside the request.",
        (Edit("match_record", "replayed=False, shard=stored.shard)", "replayed=True, shard=stored.shard)"),),
        money=True,
    ),
    Mutation(
        "a new event id for each try",
        "The event id is fixed once per request, so that a retry inside it finds its own commit.",
        (
            Edit(
                "record_with_retries",
                "$Increment([usage],",
                "$Increment([dataclasses.replace(usage, event_id=str(uuid.uuid4()))],",
                imports="dataclasses",
            ),
        ),
        money=True,
    ),
    Mutation(
        "other content under a used key answered as a replay",
        "A key belongs to one content: other content under it is refused.",
        (
            Edit(
                "match_record",
                """
                if stored.usage.fingerprint != usage.fingerprint:
                    raise $KeyReused
                """,
            ),
        ),
        money=True,
    ),
    Mutation(
        "a replay answered with what was sent now",
        "A replay answers with the record that stands: its own billing period's total, whatever the clock says.",
        (
            Edit(
                "match_record", "return $Recorded(stored.usage, replayed=True", "return $Recorded(usage, replayed=True"
            ),
        ),
        money=True,
    ),
    Mutation(
        "a conflict on the counter decided before the record",
        "A record that is there decides, whatever else happened to the transaction.",
        (Edit("record_one", "if cancelled.stored:", "if cancelled.stored and not cancelled.conflict:"),),
    ),
    Mutation(
        "a conflict on the record answered as a replay",
        "Whether a key is taken is what the store says after the conflict, not what a conflict suggests.",
        (
            Edit(
                "record_one",
                "if cancelled.busy_records or cancelled.busy_shards:",
                """
                if cancelled.busy_records and cancelled.conflict:
                    return $Recorded(usage, replayed=True)
                if cancelled.busy_records or cancelled.busy_shards:
                """,
            ),
        ),
        money=True,
    ),
    Mutation(
        "retry on a conflict without a new read of state",
        "Each try asks anew whether the key is free: a rival may have taken it meanwhile.",
        (
            Edit(
                "record_with_retries",
                "([usage], shard, hard_limit, lifts)",
                "([usage], shard, hard_limit, lifts), budget.conflicts > 0",
            ),
            Edit(
                "record_one",
                "addition: $Increment) -> $Recorded:",
                "addition: $Increment, assumed_free: bool = False) -> $Recorded:",
            ),
            Edit("record_one", "$commit(...)", "$commit(client, table, [addition], assumed_free)"),
            Edit("commit", "Sequence[$Increment]", "Sequence[$Increment], assumed_free: bool = False"),
            Edit(
                "commit",
                "client.transact_write_items(...)",
                """
                if assumed_free:
                    actions[0] = {"Put": {"TableName": table, "Item": actions[0]["Put"]["Item"]}}
                client.transact_write_items(...)
                """,
            ),
        ),
        money=True,
    ),
    Mutation(
        "a conflict on the record changes the shard",
        "Only a conflict on the counter alone spreads it over more shards.",
        (Edit("record_one", "on_counter = not cancelled.busy_records", "on_counter = bool(cancelled.busy_shards)"),),
    ),
    Mutation(
        "a conflict on the counter keeps the shard",
        "After a conflict on its counter a request adds to another shard.",
        (Edit("record_with_retries", "if hard_limit is not None else $choose_counter_shard(...)"),),
    ),
    Mutation(
        "a throttled item not tried again",
        "A throttle inside the transaction is tried again until the deadline.",
        (Edit("cancellation", "or code in $BUSY_REASONS"),),
    ),
    Mutation(
        "the record looked for without consistency",
        "Usage is found under its key from its acknowledgement on.",
        (Edit("read_record", ", ConsistentRead=True"),),
        money=True,
    ),
    Mutation(
        "an expired record acknowledged",
        "A key that is free again is a new one, also for an organization that may record nothing new.",
        (Edit("has_expired", "return usage.expires_at <= $to_epoch_s(now)", "return False"),),
        money=True,
    ),
    Mutation(
        "the total read without consistency",
        "An answer's total holds its own usage.",
        (Edit("read_shards", "**$SHARD_READ,", '**{**$SHARD_READ, "ConsistentRead": False},'),),
        money=True,
    ),
    Mutation(
        "the total read from the first shard",
        "The total is the sum of all shards.",
        (Edit("first_page", "total += $counter_total(item)", "total = total or $counter_total(item)"),),
        money=True,
    ),
    Mutation(
        "an inactive organization may record",
        "An organization that was set inactive records nothing new.",
        (Edit("terms_of", "if not organization.active:", "if False:"),),
        money=True,
    ),
    Mutation(
        "the organization's state decided before the key",
        "Usage once counted is acknowledged for ever after, whatever became of the organization.",
        (
            Edit(
                "record_on_terms",
                """
                recorded = $find_recorded(...)
                if recorded is None:
                    raise terms.refusal
                """,
                "raise terms.refusal",
            ),
        ),
        money=True,
    ),
)
