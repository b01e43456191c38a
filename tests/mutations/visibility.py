"""Mutations of decisions on items of a transaction that become visible one by one."""

from tests.mutations.mutation import Edit, Mutation

_TOGETHER = (
    "items = read_together(client, table, [usage_key(each.organization, each.idempotency_key) for each in usages])\n"
)
# As isolated as BatchGetItem: each item as far as its transaction has become visible.
_ITEM_BY_ITEM = """\
items: list[Any] = []
        for each in usages:
            with busy_when_unanswered():
                found = client.query(
                    TableName=table,
                    KeyConditionExpression="pk = :pk",
                    ExpressionAttributeValues={":pk": usage_key(each.organization, each.idempotency_key)["pk"]},
                    ConsistentRead=True,
                )["Items"]
            items.append(found[0] if found else None)
"""

VISIBILITY = (
    Mutation(
        "an organization and its plan read one after the other",
        "Terms are those of an organization and a plan that were stored at one moment.",
        (
            Edit(
                "storage/organization_reads.py",
                "item, plan_stored = read_together(client, table, [organization_key(name), plan_key(plan)])",
                "with busy_when_unanswered():\n"
                "            item, plan_stored = (\n"
                '                client.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")\n'
                "                for key in (organization_key(name), plan_key(plan))\n"
                "            )",
            ),
        ),
        money=True,
    ),
    Mutation(
        "what was found and not confirmed acknowledged",
        "What a batch is told of as recorded is in every later total.",
        (
            Edit(
                "usage/batch.py",
                "                    entry.outcome = unavailable\n",
                "                    pass\n",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a refusal by a read that sees transactions item by item",
        "A refusal waits for a transaction that may record the usage.",
        (Edit("storage/ledger.py", _TOGETHER, _ITEM_BY_ITEM),),
        money=True,
    ),
    Mutation(
        "a record's total without its confirmation",
        "The total of a record that was found holds that record.",
        (
            Edit(
                "usage/command.py",
                "    until_free([recorded], partial(ledger.confirm, books.client, books.table), effort)\n",
                "",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a batch's totals without confirmation of what was found",
        "The totals of a batch hold every record that was found.",
        (
            Edit(
                "usage/batch.py",
                "for start in range(0, len(found), ledger.MOST_CONFIRMED):",
                "for start in range(0):",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a record shown before it is counted",
        "A record that a query has shown is in every later total.",
        (
            Edit(
                "usage/queries.py",
                "    until_free([stored], partial(ledger.confirm, view.client, view.table), effort)\n",
                "",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a record confirmed without its shard",
        "A record is confirmed together with the shard that counts it.",
        (
            Edit(
                "storage/ledger.py",
                "(usage_key(each.usage.organization, each.usage.idempotency_key), each.shard)",
                "(usage_key(each.usage.organization, each.usage.idempotency_key),)",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a shard confirmed without waiting for a transaction that holds it",
        "A confirmation waits for a transaction that holds the record or its shard.",
        (Edit("storage/ledger.py", "return [each for each in found if each in unsure]", "return []"),),
        money=True,
    ),
    Mutation(
        "a held record keeps its neighbours waiting",
        "A record that stays held keeps no other refusal and no other total waiting.",
        (
            Edit(
                "storage/retry.py",
                "            held += busy\n"
                "            left = [subject for subject in left if subject not in busy] if busy else []\n",
                "            held += left if busy else []\n            left = []\n",
            ),
        ),
    ),
)
