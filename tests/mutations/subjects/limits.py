"""Mutations of soft and hard limits."""

from tests.mutations.mutation import Edit, Mutation

LIMITS = (
    Mutation(
        "a hard limit not checked",
        "A hard limit is never exceeded.",
        Edit("counter_update", "(attribute_exists(#hard) AND #total <= :room)", "attribute_exists(#hard)"),
        Edit("counter_update", ', ":room": {"N": str(...)}'),
        money=True,
    ),
    Mutation(
        "a hard limit exceeded by one",
        "A hard limit is never exceeded, not even by one.",
        Edit(
            "counter_update",
            "str(addition.hard_limit - addition.quantity)}",
            "str(addition.hard_limit - addition.quantity + 1)}",
        ),
        money=True,
    ),
    Mutation(
        "a hard limit not reached by one",
        "A hard limit can be used up.",
        Edit("counter_update", "#total <= :room", "#total < :room"),
    ),
    Mutation(
        "a hard limit on a counter that began soft",
        "A soft limit that becomes hard holds from the next period on: until then usage can be in other shards.",
        Edit("counter_update", "(attribute_exists(#hard) AND #total <= :room)", "#total <= :room"),
        money=True,
    ),
    Mutation(
        "a hard limit's mark kept by soft usage",
        "A hard limit that becomes soft is soft until the period ends.",
        Edit(
            "counter_update",
            """
            f"{add} REMOVE #hard"
            names["#hard"] = $HARD_LIMIT_MARK
            """,
            "add",
        ),
        money=True,
    ),
    Mutation(
        "a counter under a hard limit spread over shards",
        "All usage under a hard limit is in the first shard.",
        Edit("pack_transaction", "if limit is None else $FIRST_SHARD"),
        Edit("apply_cancellation", "if addition.hard_limit is None:", "if True:"),
        Edit("shard_busy", "if $is_known_soft(counter) or $read_first_page(counter).is_soft:", "if True:"),
        Edit("choose_counter_shard", "if known.is_soft else $FIRST_SHARD"),
        money=True,
    ),
    Mutation(
        "a counter spread by an execution environment without its hard limit",
        "All usage under a hard limit is in the first shard, even if an execution environment's plan is older.",
        Edit("shard_busy", "if $is_known_soft(counter) or $read_first_page(counter).is_soft:", "if True:"),
        Edit("choose_counter_shard", "if known.is_soft else $FIRST_SHARD"),
        money=True,
    ),
    Mutation(
        "a limit decided before the key",
        "A stored usage is acknowledged, even if the limit is lower now.",
        Edit(
            "choose_usages",
            "if counter.is_unanswered or counter.at_least + usage.quantity <= limit:",
            """
            if not counter.is_unanswered and counter.at_least + usage.quantity > limit:
                entry.outcome = $OverLimit()
            else:
            """,
        ),
        money=True,
    ),
    Mutation(
        "an organization's own limit ignored",
        "An organization's own limit replaces its plan's.",
        Edit("entitlement_of", "if feature not in organization.limits:", "if True:"),
    ),
    Mutation(
        "a limit reached one too late",
        "limitReached means that the total is at the limit or beyond.",
        Edit("is_reached", "total >= limit", "total > limit"),
        money=True,
    ),
    Mutation(
        "a refused usage shown as recorded",
        "A usage that a hard limit refuses is not recorded, and the response says so.",
        Edit("answer_single", "recorded=isinstance(...)", "recorded=True"),
        money=True,
    ),
    Mutation(
        "a first usage beyond the hard limit recorded",
        "A hard limit is never exceeded, not even by a counter's first usage.",
        Edit(
            "choose_usages", "if limit is not None and counter", "if limit is not None and counter.at_least and counter"
        ),
        money=True,
    ),
    Mutation(
        "a soft limit treated as a hard one",
        "A soft limit refuses nothing.",
        Edit("hard_limit", "if self.hard else None"),
        money=True,
    ),
    Mutation(
        "an organization's own limit soft where its plan's is hard",
        "An organization's own limit replaces only the number of its plan's limit.",
        Edit("entitlement_of", "own.unit, own.hard, own.warn_at", "own.unit, False, own.warn_at"),
    ),
    Mutation(
        "usage rejected after a subscription is canceled",
        "Usage is recorded under a canceled or paused subscription: only an inactive organization records nothing new.",
        Edit(
            "terms_of",
            "if not organization.active:",
            'if not organization.active or organization.subscription_status in ("CANCELED", "PAUSED"):',
        ),
    ),
    Mutation(
        "an unknown feature recorded where they are rejected",
        "Where unknown features are rejected, usage of a feature that no plan has is not recorded.",
        Edit("terms_of", "if each is None and feature not in known]", "if False]"),
    ),
    Mutation(
        "a feature of another plan rejected as unknown",
        "A feature is unknown only if no plan has it.",
        Edit("terms_of", "and feature not in known"),
    ),
    Mutation(
        "a plan cached from the period before",
        "A hard limit holds from its first period's start, even if an execution environment cached an older plan.",
        Edit("record_usages", "$enter_period(...)"),
        money=True,
    ),
    Mutation(
        "a large usage refused in a period without a hard limit",
        "A soft limit that becomes hard refuses nothing before the next period, however large the usage.",
        Edit("apply_counter", "counter.is_soft = counter.is_soft or page.is_soft"),
        money=True,
    ),
    Mutation(
        "a hard limit lifted without a condition",
        "Only the stored counter ends a hard limit, never a cached plan.",
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
        money=True,
    ),
    Mutation(
        "soft usage added beside a hard limit's mark",
        "Usage without a hard limit is not added to a counter under a hard limit.",
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
        money=True,
    ),
    Mutation(
        "terms read again and not used",
        "The terms from the second read decide whether a hard limit is lifted.",
        Edit("apply_terms", "entry.terms = terms[entry.usage.feature]", "pass"),
        money=True,
    ),
    Mutation(
        "organization and plan read again from the cache",
        "Before a hard limit is lifted, the stored organization and plan are read again.",
        Edit("terms_of", "$read_organization if fresh else $find_organization", "$find_organization"),
        money=True,
    ),
    Mutation(
        "a hard limit never lifted",
        "Usage is recorded without a hard limit once the stored plan has none.",
        Edit("apply_terms", "batch.counters[name].lifts_limit = True", "pass"),
    ),
    Mutation(
        "a counter's soft beginning not learned from its cancellation",
        "A counter that began without a hard limit takes usage without one until its period ends.",
        Edit("apply_cancellation", "batch.counters[name].is_soft = True", "pass"),
    ),
)
