"""Mutations of decisions on items of a transaction that become visible one by one."""

from tests.mutations.mutation import Edit, Mutation

_TOGETHER = '            responses = client.transact_get_items(TransactItems=gets)["Responses"]\n'
# As isolated as BatchGetItem: each item as far as its transaction has become visible.
_ITEM_BY_ITEM = """\
            responses: Any = []
            for key in keys:
                found = client.query(
                    TableName=table,
                    KeyConditionExpression="pk = :pk",
                    ExpressionAttributeValues={":pk": key["pk"]},
                    ConsistentRead=True,
                )["Items"]
                responses.append({"Item": found[0]} if found else {})
"""

VISIBILITY = (
    Mutation(
        "a refusal by a read that sees transactions item by item",
        "A refusal waits for a transaction that may record the usage.",
        (Edit("ledger.py", _TOGETHER, _ITEM_BY_ITEM),),
        money=True,
    ),
    Mutation(
        "a record's total without its confirmation",
        "The total of a record that was found holds that record.",
        (
            Edit(
                "command.py",
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
                "batch.py",
                "if held := ledger.confirm(self._books.client, self._books.table, of_these):",
                "if held := of_these[:0]:",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a record shown before it is counted",
        "A record that a query has shown is in every later total.",
        (
            Edit(
                "queries.py",
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
                "ledger.py",
                "(usage_key(each.usage.organization, each.usage.idempotency_key), each.shard or {})",
                "(usage_key(each.usage.organization, each.usage.idempotency_key),)",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a shard confirmed without waiting for a transaction that holds it",
        "A confirmation waits for a transaction that holds the record or its shard.",
        (Edit("ledger.py", "return [each for each in found if each in held]", "return []"),),
        money=True,
    ),
    Mutation(
        "a held record keeps its neighbours waiting",
        "A record that stays held keeps no other refusal and no other total waiting.",
        (
            Edit(
                "retry.py",
                "            held += busy\n"
                "            left = [subject for subject in left if subject not in busy] if busy else []\n",
                "            held += left if busy else []\n            left = []\n",
            ),
        ),
    ),
)
