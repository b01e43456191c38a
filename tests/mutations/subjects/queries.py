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
        Edit("access_reason", "organization.subscription_status in $WITHOUT_ACCESS or"),
    ),
    Mutation(
        "access for an inactive organization",
        "An inactive organization has access to nothing.",
        Edit("access_reason", "not organization.active or"),
    ),
    Mutation(
        "access to a feature at its limit",
        "Access ends exactly where recording reports that the limit is reached.",
        Edit("access_reason", "$is_reached(...)", "total > entitlement.limit"),
    ),
    Mutation(
        "access to a feature without a plan",
        "Only features of the plan and of the organization itself are accessible.",
        Edit("access_reason", "or entitlement is None"),
        Edit("access_reason", "if entitlement.limit is None:", "if entitlement is None or entitlement.limit is None:"),
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
