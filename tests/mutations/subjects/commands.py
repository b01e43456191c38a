"""Mutations of the commands that apply plans."""

from tests.mutations.mutation import Edit, Mutation

COMMANDS = (
    Mutation(
        "a plan written over a concurrent change",
        "A plan replaces only the plan that the command has shown.",
        Edit("write_plan", ", **$plan_unchanged_condition(...)"),
    ),
    Mutation(
        "a plan's features listed after its transaction",
        "A plan is written with its features' names, or not at all.",
        Edit(
            "write_plan",
            '[{"Put": put}, {"Update": update}])',
            """
            [{"Put": put}])
            dynamodb.update_item(**update)
            """,
        ),
    ),
    Mutation(
        "a feature removed although a plan has just received it",
        "Each feature of any plan is known.",
        Edit("forget_unused_features", 'ConditionExpression="#version = :version",'),
        Edit("forget_unused_features", ', "#version": "version"'),
        Edit("forget_unused_features", ', ":version": listed["version"]'),
    ),
    Mutation(
        "an unused feature stays known",
        "A feature that no plan has is unknown.",
        Edit("write_plans", "$forget_unused_features(...)"),
    ),
    Mutation(
        "an unchanged plan written again",
        "Applying the same file again writes nothing.",
        Edit("write_plans", 'if change.kind != "unchanged":', "if True:"),
    ),
    Mutation(
        "a plan written on a dry run",
        "A dry run writes nothing.",
        Edit(
            "apply_plans_command",
            'say("Nothing was written: this was a dry run.")',
            """
            say("Nothing was written: this was a dry run.")
            apply.$write_plans(dynamodb, where.table, found.changes, say)
            """,
        ),
    ),
    Mutation(
        "an upgrade URL that no client can read accepted",
        "An applied plan holds only URLs that clients can read.",
        Edit("check_format", "$URL.validate_python(value)", "pass"),
    ),
    Mutation(
        "a feature in use removed without a question",
        "A feature with usage in this period is removed only after a confirmation.",
        Edit(
            "confirm_losses",
            """
            if not losses:
                return
            """,
            "return",
        ),
    ),
    Mutation(
        "a plan read without consistency",
        "The commands show and replace plans as stored.",
        Edit("read_plan", ", ConsistentRead=True"),
    ),
)
