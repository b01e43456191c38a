"""Mutations of how queries are answered."""

from tests.mutations.mutation import Edit, Mutation

QUERIES = (
    Mutation(
        "the organization taken from the query string",
        "The organization comes only from the verified token.",
        Edit(
            "query_operation",
            "output = answer(...)",
            """
            sent = request.$query_parameters(asked)
            organization = sent.pop("organizationId", organization)
            output = answer(contract.$valid_input(model, sent), organization, service, budget)
            """,
        ),
    ),
    Mutation(
        "access with a subscription that is canceled or paused",
        "An organization with a canceled or paused subscription has access to nothing.",
        Edit("has_subscription", "and organization.subscription_status not in $WITHOUT_ACCESS"),
    ),
    Mutation(
        "access for an inactive organization",
        "An inactive organization has access to nothing.",
        Edit("has_subscription", "organization.active and"),
    ),
    Mutation(
        "access to a feature at its limit",
        "Access ends exactly where recording reports that the limit is reached.",
        Edit("answer_feature_check", "total + quantity <= entitlement.limit", "total <= entitlement.limit"),
    ),
    Mutation(
        "room compared with the wrong side",
        "A quantity has access if it is at most what is left of the limit.",
        Edit("answer_feature_check", "total + quantity <= entitlement.limit", "entitlement.limit - total <= quantity"),
    ),
    Mutation(
        "a quantity that just fits denied",
        "A quantity that uses up the limit exactly has access.",
        Edit("answer_feature_check", "total + quantity <= entitlement.limit", "total + quantity < entitlement.limit"),
    ),
    Mutation(
        "a limit that starts again too late",
        "`resetsAt` and `periodEnd` are the start of the next billing period.",
        Edit("end_of_period", ".replace(day=1)"),
    ),
    Mutation(
        "access to a feature without a plan",
        "Only features of the plan and of the organization itself are accessible.",
        Edit("answer_feature_check", "if entitlement is None or not", "if not"),
        Edit(
            "answer_feature_check",
            "if entitlement.limit is None:",
            "if entitlement is None or entitlement.limit is None:",
        ),
    ),
    Mutation(
        "a percentage of 100 below the limit",
        "Usage below the limit never shows as 100 percent.",
        Edit("percentage_used", "if $is_reached(...) else min(...)"),
    ),
    Mutation(
        "a percentage without its decimal",
        "A percentage has one decimal.",
        Edit("percentage_used", "round(...)", "float(round(100 * self.used / self.limit))"),
    ),
    Mutation(
        "a summary of used features only",
        "A summary has every feature with usage or a limit.",
        Edit("answer_usage_summary", "limited |"),
    ),
    Mutation(
        "a summary of its first page",
        "A summary is the sum of all shards over all pages.",
        Edit("first_pages", "if after is None:", "if True:"),
        money=True,
    ),
    Mutation(
        "a summary read without consistency",
        "A summary includes all acknowledged usage.",
        Edit("query_counters", "ConsistentRead=True,", 'ConsistentRead=feature != "",'),
        money=True,
    ),
    Mutation(
        "a day left out",
        "The days of a summary add up to its total.",
        Edit("answer_usage_summary", "sorted(days.items())", "sorted(days.items())[1:]"),
        money=True,
    ),
    Mutation(
        "a day counted to another shard's sum",
        "The usage of a day is the sum of all shards.",
        Edit("first_page_with_item", "self.days + $counter_days(item)", "self.days | $counter_days(item)"),
        money=True,
    ),
    Mutation(
        "days of first pages",
        "The usage of a day is the sum of all pages.",
        Edit("summary_totals", "page.days + $days_of_further_pages(...)", "page.days"),
        money=True,
    ),
    Mutation(
        "days shown that do not add up",
        "No answer has days that differ from their total.",
        Edit("counter_days", "if days.total() != $counter_total(shard):", "if False:"),
    ),
    Mutation(
        "a past period answered with the present one",
        "A summary is of the requested billing period.",
        Edit("asked_period", "return period", "return present"),
    ),
    Mutation(
        "a future period answered",
        "A future billing period is an invalid request.",
        Edit("check_begun", "if period > present:", "if False:"),
    ),
    Mutation(
        "a period under its other name ignored",
        "The period is accepted under either of its names.",
        Edit("asked_period", 'asked.get("period", "current")', '"current"'),
    ),
    Mutation(
        "a subscription shown from the cache",
        "A stored change of a subscription shows at once.",
        Edit("answer_subscription", "$read_organization, name", "deps.organizations.$find_organization, name"),
    ),
    Mutation(
        "an incomplete subscription shown",
        "A subscription is not found until all its fields are known.",
        Edit("answer_subscription", "if value is None]", 'if value is None and member != "planName"]'),
    ),
)
