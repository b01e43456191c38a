"""Mutations of the commands that apply plans."""

from tests.mutations.mutation import Edit, Mutation

COMMANDS = (
    Mutation(
        "a plan written over what somebody wrote meanwhile",
        "A plan takes the place of what was shown, and of nothing else.",
        (Edit("write_plan", ", **$plan_unchanged_condition(...)"),),
    ),
    Mutation(
        "a plan's features listed after its transaction",
        "A plan is written with its features' names, or not at all.",
        (
            Edit(
                "write_plan",
                'TransactItems=[{"Put": put}, {"Update": update}])',
                """
                TransactItems=[{"Put": put}])
                dynamodb.update_item(**update)
                """,
            ),
        ),
    ),
    Mutation(
        "a feature forgotten that a plan got meanwhile",
        "What any plan has is known.",
        (
            Edit("forget_unused_features", 'ConditionExpression="#version = :version",'),
            Edit("forget_unused_features", ', "#version": "version"'),
            Edit("forget_unused_features", ', ":version": listed["version"]'),
        ),
    ),
    Mutation(
        "a feature that no plan has any more stays known",
        "What no plan has is unknown.",
        (Edit("write_plans", "$forget_unused_features(...)"),),
    ),
    Mutation(
        "a plan that is as it should be written again",
        "Applying the same file again writes nothing.",
        (Edit("write_plans", 'if change.kind != "unchanged":', "if True:"),),
    ),
    Mutation(
        "a plan written on a dry run",
        "A dry run writes nothing.",
        (
            Edit(
                "apply_plans_command",
                'say("Nothing was written: this was a dry run.")',
                """
                say("Nothing was written: this was a dry run.")
                apply.$write_plans(dynamodb, where.table, found.changes, say)
                """,
            ),
        ),
    ),
    Mutation(
        "an upgrade URL that no client can read accepted",
        "A plan that is applied holds only URLs that clients can read.",
        (Edit("check_format", "$URL.validate_python(value)", "pass"),),
    ),
    Mutation(
        "nobody asked before a feature in use goes",
        "A feature that has usage in this period goes only if somebody says so.",
        (
            Edit(
                "confirm_losses",
                """
                if not losses:
                    return
                """,
                "return",
            ),
        ),
    ),
    Mutation(
        "usage of what a plan loses read without consistency",
        "A feature that an organization has used is taken away only with a yes.",
        (Edit("usage_of_removed", "ConsistentRead=True,"),),
    ),
    Mutation(
        "a plan read without consistency",
        "The commands show and write plans as of what is stored.",
        (Edit("read_plan", ", ConsistentRead=True"),),
    ),
    Mutation(
        "usage of any period keeps a feature",
        "A feature goes unasked if only earlier periods have usage of it.",
        (
            Edit(
                "usage_of_removed", '"({$ORGANIZATION_PATTERN})", billing_period', '"({$ORGANIZATION_PATTERN})", ".*"'
            ),
            Edit("usage_of_removed", '":period": {"S": f"#{billing_period}"}', '":period": {"S": "#"}'),
        ),
    ),
)
