"""Mutations of soft and hard limits."""

from tests.mutations.mutation import Edit, Mutation

LIMITS = (
    Mutation(
        "a hard limit not asked for",
        "A hard limit is never exceeded.",
        (
            Edit("counter_update", "(attribute_exists(#hard) AND #total <= :room)", "attribute_exists(#hard)"),
            Edit("counter_update", ', ":room": {"N": str(...)}'),
        ),
        money=True,
    ),
    Mutation(
        "a hard limit exceeded by one",
        "A hard limit is never exceeded, not by one.",
        (
            Edit(
                "counter_update",
                "str(addition.hard_limit - addition.quantity)}",
                "str(addition.hard_limit - addition.quantity + 1)}",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a hard limit not reached by one",
        "A hard limit can be used up.",
        (Edit("counter_update", "#total <= :room", "#total < :room"),),
    ),
    Mutation(
        "a hard limit that relies on a counter that was begun soft",
        "Soft turned hard holds from the next period on: until then other shards may hold a part of the total.",
        (Edit("counter_update", "(attribute_exists(#hard) AND #total <= :room)", "#total <= :room"),),
        money=True,
    ),
    Mutation(
        "a hard limit's mark left by soft usage",
        "Hard turned soft is soft until the period ends, whatever it turns to.",
        (
            Edit(
                "counter_update",
                """
                f"{add} REMOVE #hard"
                names["#hard"] = $HARD_LIMIT_MARK
                """,
                "add",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a counter under a hard limit spread over shards",
        "What a hard limit counts is all in the first shard.",
        (
            Edit("record_with_retries", "$FIRST_SHARD if hard_limit is not None else"),
            Edit("record_with_retries", "and hard_limit is None"),
            Edit("shard_busy", "if $is_soft(counter):", "if True:"),
            Edit("choose_counter_shard", "if known.is_soft else $FIRST_SHARD"),
        ),
        money=True,
    ),
    Mutation(
        "a counter spread by who has not heard of its hard limit",
        "What a hard limit counts is all in the first shard, also while some environment knows of none.",
        (
            Edit("shard_busy", "if $is_soft(counter):", "if True:"),
            Edit("choose_counter_shard", "if known.is_soft else $FIRST_SHARD"),
        ),
        money=True,
    ),
    Mutation(
        "a limit decided before the key",
        "Usage once counted is acknowledged for ever after, whatever the limit is now.",
        (Edit("record_within_limit", "$find_recorded(...) or"),),
        money=True,
    ),
    Mutation(
        "an organization's own limit ignored",
        "An organization's own limit takes the place of its plan's.",
        (Edit("entitlement_of", "if feature not in organization.limits:", "if True:"),),
    ),
    Mutation(
        "a limit reached one too late",
        "limitReached says that the total is at the limit or beyond.",
        (Edit("is_reached", "total >= limit", "total > limit"),),
        money=True,
    ),
    Mutation(
        "a refused usage told as recorded",
        "What a hard limit refused is not recorded, and is told so.",
        (Edit("success_answer", "recorded=isinstance(...)", "recorded=True"),),
        money=True,
    ),
    Mutation(
        "a first usage beyond the hard limit recorded",
        "A hard limit is never exceeded, also not by the usage that begins a counter.",
        (Edit("record_within_limit", "if usage.quantity > limit:", "if False:"),),
        money=True,
    ),
    Mutation(
        "a soft limit taken for a hard one",
        "A soft limit refuses nothing.",
        (Edit("hard_limit", "if self.hard else None"),),
        money=True,
    ),
    Mutation(
        "an organization's own limit soft where its plan's is hard",
        "An organization's own limit takes the place of its plan's number and of nothing else.",
        (Edit("entitlement_of", "own.unit, own.hard, own.warn_at", "own.unit, False, own.warn_at"),),
    ),
    Mutation(
        "nothing recorded for whoever has canceled",
        "Usage counts whatever became of the subscription: only organizations that were set inactive are refused.",
        (
            Edit(
                "terms_of",
                "if not organization.active:",
                'if not organization.active or organization.subscription_status in ("CANCELED", "PAUSED"):',
            ),
        ),
    ),
    Mutation(
        "an unknown feature recorded where such are refused",
        "Where unknown features are refused, a feature that no plan has is not recorded.",
        (Edit("terms_of", "if each is None and feature not in known]", "if False]"),),
    ),
    Mutation(
        "a feature of another plan refused as unknown",
        "A feature is unknown only if no plan has it.",
        (Edit("terms_of", "and feature not in known"),),
    ),
    Mutation(
        "a limit remembered from the period before",
        "A hard limit holds from the beginning of its first period, whatever was known before.",
        (Edit("record_usage", "$enter_period(...)"),),
        money=True,
    ),
    Mutation(
        "much at once refused in a period in which no hard limit holds",
        "Soft turned hard holds from the next period on, however much comes at once.",
        (Edit("refuse_too_large", "not $until_answered(...)", "True"),),
        money=True,
    ),
    Mutation(
        "a hard limit lifted without a condition",
        "A hard limit ends by what is stored, and by no memory.",
        (
            Edit(
                "counter_update",
                """
                update |= {
                    "UpdateExpression": add,
                    "ConditionExpression": "attribute_not_exists(#hard)",
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                }
                """,
                'update["UpdateExpression"] = f"{add} REMOVE #hard"',
            ),
        ),
        money=True,
    ),
    Mutation(
        "soft usage added beside a hard limit's mark",
        "Usage without a hard limit is not added to a counter under one.",
        (
            Edit(
                "counter_update",
                """
                update |= {
                    "UpdateExpression": add,
                    "ConditionExpression": "attribute_not_exists(#hard)",
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                }
                names["#hard"] = $HARD_LIMIT_MARK
                """,
                'update["UpdateExpression"] = add',
            ),
        ),
        money=True,
    ),
    Mutation(
        "a hard limit lifted on remembered terms",
        "Before a hard limit is lifted, the organization and its plan are read again.",
        (Edit("record_usage", "terms = $terms_of([usage], deps, budget, now=True)[usage.feature]"),),
        money=True,
    ),
    Mutation(
        "a hard limit lifted by a batch on remembered terms",
        "Before a batch lifts a hard limit, the organization and its plan are read again.",
        (Edit("batch_read_terms_again", ", now=True"),),
        money=True,
    ),
    Mutation(
        "terms read again and not used",
        "What was read again decides whether a hard limit is lifted.",
        (
            Edit(
                "record_usage",
                "terms = $terms_of([usage], deps, budget, now=True)[usage.feature]",
                "$terms_of([usage], deps, budget, now=True)",
            ),
        ),
        money=True,
    ),
    Mutation(
        "terms read again and not used by a batch",
        "What was read again decides whether a batch lifts a hard limit.",
        (Edit("batch_read_terms_again", "entry.terms = terms[entry.usage.feature]", "str(terms)"),),
        money=True,
    ),
    Mutation(
        "organization and plan read again from memory",
        "Before a hard limit is lifted, organization and plan are read again.",
        (Edit("terms_of", "$read_organization if now else $find_organization", "$find_organization"),),
        money=True,
    ),
    Mutation(
        "a hard limit never lifted",
        "Usage is recorded without a hard limit once the stored plan has none.",
        (Edit("record_on_terms", ", lifts=lifts"),),
    ),
    Mutation(
        "a hard limit never lifted by a batch",
        "A batch is recorded without a hard limit once the stored plan has none.",
        (Edit("batch_read_terms_again", "self._lifted |= set(hard)"),),
    ),
)
