"""Mutations of keys, periods and the contents of items."""

from tests.mutations.mutation import Edit, Mutation

ITEMS = (
    Mutation(
        "the key's scope includes the period",
        "A retry after midnight finds the record from before midnight and counts nothing.",
        Edit("usage_key", "idempotency_key: str", 'idempotency_key: str, billing_period: str = ""'),
        Edit("usage_key", '"sk": {"S": idempotency_key}}', '"sk": {"S": f"{idempotency_key}#{billing_period}"}}'),
        Edit("usage_item", "idempotency_key", "idempotency_key, usage.billing_period"),
        Edit("confirm", "idempotency_key", "idempotency_key, each.usage.billing_period"),
        Edit("find_records", "each.idempotency_key", "each.idempotency_key, each.billing_period"),
        money=True,
    ),
    Mutation(
        "the key's scope includes the feature",
        "A key belongs to one content: the same key for another feature is a conflict.",
        Edit("usage_key", "idempotency_key: str", 'idempotency_key: str, feature: str = ""'),
        Edit("usage_key", '"sk": {"S": idempotency_key}}', '"sk": {"S": f"{idempotency_key}#{feature}"}}'),
        Edit("usage_item", "idempotency_key", "idempotency_key, usage.feature"),
        Edit("confirm", "idempotency_key", "idempotency_key, each.usage.feature"),
        Edit("find_records", "each.idempotency_key", "each.idempotency_key, each.feature"),
        money=True,
    ),
    Mutation(
        "the key's scope leaves out the organization",
        "Two organizations can use the same key.",
        Edit("usage_partition", "{organization}", "any"),
        money=True,
    ),
    Mutation(
        "the quantity of a day left out",
        "The days of a shard add up to its total.",
        Edit("counter_update", "for day, quantity in addition.quantity_by_day().items():", "for day, quantity in ():"),
        money=True,
    ),
    Mutation(
        "a batch counted on one day as one usage",
        "A batch adds up its days.",
        Edit("quantity_by_day", "days[usage.day] += usage.quantity", "days[usage.day] = usage.quantity"),
        money=True,
    ),
    Mutation(
        "a record's day counted in the caller's time zone",
        "Days are UTC days.",
        Edit("day_in_period", "moment.astimezone(UTC).date()", "moment.date()"),
    ),
    Mutation(
        "the bucket derived from the organization",
        "An organization's records spread over 256 partitions.",
        Edit("usage_key", "bucket_of(idempotency_key)", "bucket_of(organization)"),
    ),
    Mutation(
        "one counter for all organizations",
        "Each organization has its own total.",
        Edit("counter_partition", "{organization}", "any"),
        money=True,
    ),
    Mutation(
        "one counter for all periods",
        "Each billing period has its own total.",
        Edit("counter_partition", "{billing_period}", "any"),
    ),
    Mutation(
        "a feature's total includes longer names",
        "Each feature has its own total, even if one name begins with another.",
        Edit("counter_prefix", 'return f"{feature}#"', "return feature"),
    ),
    Mutation(
        "a feature's total ignores case",
        "Two features that differ only in case have two totals.",
        Edit("counter_prefix", 'return f"{feature}#"', 'return f"{feature.lower()}#"'),
    ),
    Mutation(
        "the billing period by local time",
        "The billing period is the UTC month.",
        Edit("billing_period_of", "astimezone(UTC)."),
    ),
    Mutation(
        "usage counted on the next day",
        "Usage counts on the UTC date on which it was recorded.",
        Edit("day_in_period", "return 1 +", "return 2 +"),
        money=True,
    ),
    Mutation(
        "the moment of recording rounded to milliseconds",
        "The last moment of a month belongs to that month: moments are truncated, not rounded.",
        Edit("usage_of_command", "(now)", "(now + timedelta(microseconds=500))"),
    ),
    Mutation(
        "stored moments rounded to milliseconds",
        "A moment is stored and shown truncated to milliseconds, so that it stays in its month.",
        Edit(
            "to_timestamp",
            "return moment.astimezone(UTC).isoformat(",
            "return (moment + timedelta(microseconds=500)).astimezone(UTC).isoformat(",
        ),
    ),
    Mutation(
        "a notice's moment rounded to milliseconds",
        "A notice of the last moment of a month has a moment in that month.",
        Edit("notice_thresholds", "now = deps.now()", "now = deps.now() + timedelta(microseconds=500)"),
    ),
    Mutation(
        "a record kept for a day",
        "A key stays used for the whole retention of its record.",
        Edit("expiry", "int(...)", "86_400"),
        money=True,
    ),
    Mutation(
        "the wrong shard written on the record",
        "A record names the shard it was added to, so that totals can be audited.",
        Edit("usage_item", "**$counter_key(usage.counter, shard)", "**$counter_key(usage.counter, 0)"),
        money=True,
    ),
)
