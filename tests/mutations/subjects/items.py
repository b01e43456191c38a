"""Mutations of keys, periods and what an item holds."""

from tests.mutations.mutation import Edit, Mutation

ITEMS = (
    Mutation(
        "key scope includes the period",
        "A retry a second after midnight finds the record of a second before and counts nothing.",
        (
            Edit("usage_key", "idempotency_key: str", 'idempotency_key: str, billing_period: str = ""'),
            Edit("usage_key", '"sk": {"S": "record"}}', '"sk": {"S": f"record#{billing_period}"}}'),
            Edit("usage_item", "idempotency_key", "idempotency_key, usage.billing_period"),
            Edit("confirm", "idempotency_key", "idempotency_key, each.usage.billing_period"),
            Edit("find_records", "each.idempotency_key", "each.idempotency_key, each.billing_period"),
        ),
        money=True,
    ),
    Mutation(
        "key scope includes the feature",
        "One key is one content: the same key for another feature is refused.",
        (
            Edit("usage_key", "idempotency_key: str", 'idempotency_key: str, feature: str = ""'),
            Edit("usage_key", '"sk": {"S": "record"}}', '"sk": {"S": f"record#{feature}"}}'),
            Edit("usage_item", "idempotency_key", "idempotency_key, usage.feature"),
            Edit("confirm", "idempotency_key", "idempotency_key, each.usage.feature"),
            Edit("find_records", "each.idempotency_key", "each.idempotency_key, each.feature"),
        ),
        money=True,
    ),
    Mutation(
        "key scope leaves out the organization",
        "Two organizations may use the same key.",
        (
            Edit("usage_key", "{organization}", "any"),
            Edit(
                "usage_from_item",
                """
                _, organization, idempotency_key = pk.split("#", 2)
                if $text_in(...) != organization:
                    raise $MalformedItem(...)
                """,
                """
                _, _, idempotency_key = pk.split("#", 2)
                organization = $text_in(...)
                """,
            ),
        ),
        money=True,
    ),
    Mutation(
        "counters of all organizations in one",
        "An organization's total is its own.",
        (Edit("counter_partition", "{organization}", "any"),),
        money=True,
    ),
    Mutation(
        "counters of all periods in one",
        "A total is of one billing period.",
        (Edit("counter_partition", "{billing_period}", "any"),),
    ),
    Mutation(
        "a feature counts those that begin with its name",
        "A feature's total is its own.",
        (Edit("counter_prefix", 'return f"{feature}#"', "return feature"),),
    ),
    Mutation(
        "features counted by their lower case",
        "Two features are two, also where only the case of a letter differs.",
        (Edit("counter_prefix", 'return f"{feature}#"', 'return f"{feature.lower()}#"'),),
    ),
    Mutation(
        "the billing period by local time",
        "The billing period is the UTC month.",
        (Edit("billing_period_of", "astimezone(UTC)."),),
    ),
    Mutation(
        "the moment of recording rounded to milliseconds",
        "The last moment of a month is in it: moments are cut, not rounded.",
        (
            Edit(
                "usage_from_command",
                "recorded_at = now.replace(",
                """
                now += timedelta(microseconds=500)
                recorded_at = now.replace(
                """,
            ),
        ),
    ),
    Mutation(
        "stored moments rounded to milliseconds",
        "A moment is stored and told as cut to milliseconds, so that it stays in its month.",
        (
            Edit(
                "to_timestamp",
                "return moment.astimezone(UTC).isoformat(",
                "return (moment + timedelta(microseconds=500)).astimezone(UTC).isoformat(",
            ),
        ),
    ),
    Mutation(
        "a notice's moment rounded to milliseconds",
        "A notice of the last moment of a month is told in it.",
        (Edit("notice_thresholds", "now = deps.now()", "now = deps.now() + timedelta(microseconds=500)"),),
    ),
    Mutation(
        "a record kept for a day",
        "A record keeps its key taken for the whole retention.",
        (Edit("expiry", "int(...)", "86_400"),),
        money=True,
    ),
    Mutation(
        "the wrong shard written on the record",
        "A record names the shard it was added to, so that totals can be audited.",
        (Edit("usage_item", '"counter": {"M": $counter_key(...)}', '"counter": {"M": $counter_key(usage, 0)}'),),
        money=True,
    ),
)
