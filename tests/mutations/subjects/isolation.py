"""Mutations of reads while transactions become visible item by item."""

from tests.mutations.mutation import Edit, Mutation

ISOLATION = (
    Mutation(
        "an organization and its plan read one after the other",
        "The terms come from an organization and a plan as stored at the same moment.",
        Edit(
            "read_organization_and_plan",
            "item, stored = $read_in_transaction(...)",
            "item, stored = (read_item(client, table, key) for key in ($organization_key(name), $plan_key(plan)))",
        ),
        money=True,
    ),
    Mutation(
        "an unconfirmed record of a batch acknowledged",
        "Every later total includes an acknowledged record of a batch.",
        Edit("batch_totals", "entry.outcome = unavailable", "pass"),
        money=True,
    ),
    Mutation(
        "a refusal after a read that sees transactions item by item",
        "A refusal waits for a transaction that can record the usage.",
        Edit(
            "find_records",
            "items = $read_in_transaction(...)",
            """
            items: list[Any] = []
            for each in usages:
                with $busy_when_unanswered():
                    found = client.query(
                        TableName=table,
                        KeyConditionExpression="pk = :pk",
                        ExpressionAttributeValues={":pk": $usage_key(each.organization, each.idempotency_key)["pk"]},
                        ConsistentRead=True,
                    )["Items"]
                items.append(found[0] if found else None)
            """,
        ),
        money=True,
    ),
    Mutation(
        "a record's total without its confirmation",
        "The total of a stored record includes that record.",
        Edit("confirm_found", ", len(found), $MAX_CONFIRMED"),
        money=True,
    ),
    Mutation(
        "a record shown before it is counted",
        "Every later total includes a record that a query has shown.",
        Edit("answer_usage_record", "$until_free(...)"),
        money=True,
    ),
    Mutation(
        "a record confirmed without its shard",
        "A record is confirmed together with the shard that counts it.",
        Edit(
            "confirm",
            "(each.usage.organization, each.usage.idempotency_key), each.shard",
            "(each.usage.organization, each.usage.idempotency_key),",
        ),
        money=True,
    ),
    Mutation(
        "a shard confirmed without waiting for a transaction that holds it",
        "A confirmation waits for a transaction that holds the record or its shard.",
        Edit("confirm", "each for each in found if each in unsure"),
        money=True,
    ),
    Mutation(
        "a held record delays the others of its batch",
        "A record that stays held delays no other refusal and no other total.",
        Edit(
            "until_free",
            """
            busy += more
            left = [subject for subject in left if subject not in more] if more else []
            """,
            """
            busy += left if more else []
            left = []
            """,
        ),
    ),
)
