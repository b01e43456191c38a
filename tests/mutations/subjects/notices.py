"""Mutations of how reached thresholds are noticed."""

from tests.mutations.mutation import Edit, Mutation

NOTICES = (
    Mutation(
        "a notice overwritten by the next",
        "A threshold is noticed once: its event's id never changes.",
        (Edit("put_notice", ', ConditionExpression="attribute_not_exists(pk)"'),),
        money=True,
    ),
    Mutation(
        "a notice of any limit",
        "A new limit is reached anew.",
        (
            Edit("notice_key", 'f"{feature}#{limit}#{percentage}"}', 'f"{feature}#0#{percentage}"}'),
            Edit(
                "notice_item",
                '"currentUsage": {"N": str(...)},',
                """
                "currentUsage": {"N": str(...)},
                "limit": {"N": str(notice.limit)},
                """,
            ),
            Edit("notice_from_item", "limit=int(limit),", 'limit=$whole_number_in(item, "limit", 0, $MAX_LIMIT),'),
        ),
    ),
    Mutation(
        "a threshold noticed one too late",
        "A threshold is reached when the total is at it.",
        (Edit("thresholds", "total * 100 >= each", "total * 100 > each"),),
    ),
    Mutation(
        "a counter's first shard taken for all",
        "Thresholds are those of the whole total.",
        (Edit("watched_total", "total += $counter_total(item)", "total = total or $counter_total(item)"),),
        money=True,
    ),
    Mutation(
        "a plan that changed looked at for nobody",
        "A limit that is lowered is reached at once.",
        (
            Edit(
                "watch_subjects",
                "yield $WatchSubject($period_of_change(record, deps), plan=pk.removeprefix($PLAN_PREFIX)), "
                "$EACH_FEATURE",
                "return",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a subject that failed taken for done",
        "Whatever crashes, a threshold is noticed.",
        (Edit("watch_batch", "return next(...).sequence_numbers[0]"),),
        money=True,
    ),
    Mutation(
        "only the limit itself noticed",
        "Each percentage that the plan warns at is noticed, too.",
        (Edit("thresholds", "(*feature.warn_at, $REACHED)", "($REACHED,)"),),
    ),
    Mutation(
        "a past period's counter looked at in the present one",
        "A threshold is one of the period that the usage counts in.",
        (Edit("watch_subjects", "counter.billing_period", "$billing_period_of(deps.now())"),),
    ),
    Mutation(
        "a limit that was changed looked at in the period in which the stream tells of it",
        "A limit that is lowered is reached in the period in which it is lowered, however late the stream is.",
        (Edit("period_of_change", "if written_at_s is None else datetime.fromtimestamp(...)"),),
    ),
    Mutation(
        "an organization that changed not looked at",
        "Another plan, or a limit of its own, is reached at once.",
        (
            Edit(
                "watch_subjects",
                "yield $WatchSubject($period_of_change(record, deps), "
                "organization=pk.removeprefix($ORGANIZATION_PREFIX)), $EACH_FEATURE",
                "return",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a limit read without consistency",
        "What is looked at after a change is what the change has left.",
        (Edit("read_limited", ", ConsistentRead=True"),),
    ),
    Mutation(
        "a watched counter read without consistency",
        "A look after a change finds the total that the change has left.",
        (Edit("watched_items", "ConsistentRead=True,"),),
        money=True,
    ),
    Mutation(
        "a notice remembered before it is stored",
        "Whatever fails, a threshold is noticed: also by the environment that failed.",
        (
            Edit(
                "put_notice",
                "try:",
                """
                deps.noticed.add(key)
                try:
                """,
            ),
        ),
        money=True,
    ),
    Mutation(
        "what was noticed of one organization taken for noticed of all",
        "Each organization reaches its thresholds in each period anew.",
        (Edit("put_notice", 'key = (item["pk"]["S"], item["sk"]["S"])', 'key = ("", item["sk"]["S"])'),),
        money=True,
    ),
    Mutation(
        "a batch returned from the last record of what failed on",
        "The stream sends again from the first record that tells of what could not be looked at.",
        (Edit("watch_batch", "sequence_numbers[0]", "sequence_numbers[-1]"),),
        money=True,
    ),
    Mutation(
        "an organization that cannot be read holds up the others",
        "What is malformed takes nobody else's notices with it.",
        (
            Edit(
                "skip_malformed",
                'facts = {"reason": str(malformed), **whose}',
                """
                facts = {"reason": str(malformed), **whose}
                raise $OutOfTime from malformed
                """,
            ),
        ),
    ),
    Mutation(
        "a subject begun too late to end",
        "What could outlast the invocation is not begun: it would be looked at for nothing.",
        (Edit("notice_usage", "$watch_check_time()"),),
    ),
    Mutation(
        "a plan that changed again taken up where the look before it ended",
        "Everybody on a plan is looked at after its last change.",
        (Edit("notice_plan", "or not told_by <= reached.told_by"),),
    ),
    Mutation(
        "everybody on a plan looked at again for what else is in the batch",
        "However many are on a plan, the stream gets past it.",
        (Edit("notice_plan", "[subject] = replace(...)", ".pop(subject, None)"),),
    ),
    Mutation(
        "one who cannot be read hides everybody after it on its plan",
        "What is malformed takes nobody else's notices with it.",
        (
            Edit(
                "notice_plan",
                """
                with $skip_malformed(...):
                    $notice_usage(name, {$EACH_FEATURE}, subject.billing_period)
                """,
                "$notice_usage(name, {$EACH_FEATURE}, subject.billing_period)",
            ),
        ),
    ),
    Mutation(
        "a further page begun too late to end",
        "No call begins that may outlast the invocation, however many pages a counter has.",
        (Edit("watched_total", "$watch_check_time()"),),
    ),
)
