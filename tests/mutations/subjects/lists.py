"""Mutations of the lists of organizations and counters, and of the commands that read them."""

from tests.mutations.mutation import Edit, Mutation

LISTS = (
    Mutation(
        "an organization of an event not listed",
        "Each organization is listed, whoever creates it.",
        Edit("write_change", ', f"{LISTED_IN} = :list"'),
        Edit("write_change", '":list": $organizations_list(...),'),
    ),
    Mutation(
        "an organization of a command not listed",
        "Each organization is listed, whoever creates it.",
        Edit("update_organization", ', f"{LISTED_IN} = :list"'),
        Edit("update_organization", ', ":list": $organizations_list(...)'),
    ),
    Mutation(
        "a counter not listed",
        "Each counter is listed in the transaction of its first usage.",
        Edit("counter_update", 'add += f" SET {LISTED_IN} = :list"', "pass"),
        Edit("counter_update", 'values[":list"] = $open_list(...)', "pass"),
        Edit("counter_update", "{add}, #hard = :hard", "{add} SET #hard = :hard"),
    ),
    Mutation(
        "every shard listed",
        "The index costs one write unit for each counter, not for each shard.",
        Edit("counter_update", "if addition.shard == $FIRST_SHARD: # In the same", "if True: # In the same"),
    ),
    Mutation(
        "a counter listed under another period",
        "Each counter is in a list of its own billing period.",
        Edit("open_list", "{billing_period}", "any"),
    ),
    Mutation(
        "the counters of all periods in the same lists",
        "A feature with usage only in earlier periods is removed without a question.",
        Edit("open_list", "{billing_period}", "any"),
        Edit("open_lists", "{billing_period}", "any"),
    ),
    Mutation(
        "all organizations in one list",
        "Several lists share the writes of a month's first second.",
        Edit("PARTS", "64", "1"),
    ),
    Mutation(
        "one page of a list read",
        "All organizations and counters of a list are found.",
        Edit("read_list_keys", "for page in pages", "for page in itertools.islice(pages, 1)"),
    ),
    Mutation(
        "a listed item read without consistency",
        "Commands show and decide by organizations as stored, not as an index has them.",
        Edit("read_listed_items", ', "ConsistentRead": True'),
    ),
    Mutation(
        "items that DynamoDB left unread ignored",
        "A list is complete, or the command fails.",
        Edit("read_listed_items", "if not left:", "if True:"),
    ),
    Mutation(
        "a plan in use deleted",
        "No plan is deleted while an organization is on it.",
        Edit("delete_plan_command", "plans.$check_plan_unused(...)"),
    ),
    Mutation(
        "a plan deleted over a concurrent change",
        "A plan is deleted only as the command has read it.",
        Edit("delete_plan", ", **$plan_unchanged_condition(...)"),
    ),
    Mutation(
        "the features of a deleted plan stay known",
        "A feature that no plan has is unknown.",
        Edit("delete_plan_command", "plans.$forget_unused_features(...)"),
    ),
)
