"""Mutations of how queries are answered."""

from tests.mutations.mutation import Edit, Mutation

QUERIES = (
    Mutation(
        "the organization taken from the query string",
        "The organization comes from the verified token and from nowhere else.",
        (
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
    ),
    Mutation(
        "access with a subscription that is canceled or paused",
        "Whose subscription is canceled or paused has access to nothing.",
        (Edit("access_reason", "organization.subscription_status in $WITHOUT_ACCESS or"),),
    ),
    Mutation(
        "access for an inactive organization",
        "An organization that was set inactive has access to nothing.",
        (Edit("access_reason", "not organization.active or"),),
    ),
    Mutation(
        "access to a feature at its limit",
        "Access ends just where recording says that the limit is reached.",
        (Edit("access_reason", "$is_reached(...)", "total > feature.limit"),),
    ),
    Mutation(
        "access to what is in no plan",
        "There is access only to what the plan or the organization itself has.",
        (
            Edit("access_reason", "or feature is None"),
            Edit("access_reason", "if feature.limit is None:", "if feature is None or feature.limit is None:"),
        ),
    ),
    Mutation(
        "a percentage of 100 below the limit",
        "Nobody below the limit is told that all of it is used.",
        (Edit("percentage_used", "if $is_reached(...) else min(...)"),),
    ),
    Mutation(
        "a percentage without its decimal",
        "A percentage has one decimal.",
        (Edit("percentage_used", "round(...)", "float(round(100 * used / limit))"),),
    ),
    Mutation(
        "a summary of what was used only",
        "A summary has every feature with usage or a limit.",
        (Edit("answer_usage_summary", "limited |"),),
    ),
    Mutation(
        "a summary of its first page",
        "A summary is the sum of all shards over all pages.",
        (
            Edit(
                "summary_totals",
                """
                if after is None:
                    break
                """,
                "break",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a summary read without consistency",
        "A summary holds what was answered as recorded before.",
        (Edit("first_pages", "**$SHARD_READ,", '**{**$SHARD_READ, "ConsistentRead": False},'),),
        money=True,
    ),
    Mutation(
        "a past period answered with the present one",
        "A summary is of the billing period that was asked for.",
        (Edit("asked_period", "return period", "return present"),),
    ),
    Mutation(
        "a future period answered",
        "Of a billing period that has not begun nothing is told.",
        (Edit("asked_period", "if period > present:", "if False:"),),
    ),
    Mutation(
        "a period in the contract's example spelling ignored",
        "The period is understood by either of its names.",
        (Edit("asked_period", "asked.get(...))", '"current")'),),
    ),
    Mutation(
        "a subscription told as it is remembered",
        "What has become known of a subscription is told at once.",
        (Edit("answer_subscription", "$read_organization, name", "deps.organizations.$find_organization, name"),),
    ),
    Mutation(
        "a subscription told in parts",
        "A subscription is not found until all of it is known.",
        (Edit("answer_subscription", "or plan_name is None"),),
    ),
)
