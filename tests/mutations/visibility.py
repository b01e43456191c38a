"""Mutations of decisions on items of a transaction that become visible one by one."""

from tests.mutations.mutation import Edit, Mutation

_TOGETHER = 'responses = client.transact_get_items(TransactItems=gets)["Responses"]'
_ONE_BY_ONE = "responses = [client.get_item(TableName=table, Key=key, ConsistentRead=True) for key in keys]"

VISIBILITY = (
    Mutation(
        "a refusal by plain reads",
        "A refusal waits for a transaction that may record the usage.",
        (Edit("ledger.py", _TOGETHER, _ONE_BY_ONE),),
        money=True,
    ),
    Mutation(
        "a record's total without its confirmation",
        "The total of a record that was found holds that record.",
        (Edit("command.py", "    if recorded.shard is not None:\n", "    if False:\n"),),
        money=True,
    ),
    Mutation(
        "a batch's totals without confirmation of what was found",
        "The totals of a batch hold every record that was found.",
        (
            Edit(
                "batch.py", "        if any(recorded.shard is not None for recorded in found):\n", "        if False:\n"
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
                "    until_answered(lambda: ledger.confirm(view.client, view.table, [stored]), effort)\n",
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
                "pair = [usage_key(each.usage.organization, each.usage.idempotency_key), each.shard]",
                "pair = [usage_key(each.usage.organization, each.usage.idempotency_key)]",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a shard confirmed without waiting for a transaction that holds it",
        "A confirmation waits for a transaction that holds the record or its shard.",
        (
            Edit(
                "ledger.py",
                '            raise StoreBusy("a transaction holds a record or its counter") from cancelled\n',
                "",
            ),
        ),
        money=True,
    ),
)
