"""Mutations of how the watcher notices reached thresholds."""

from tests.mutations.mutation import Edit, Mutation

NOTICES = (
    Mutation(
        "a notice overwritten by the next",
        "A threshold has one notice, and its event id never changes.",
        Edit("put_notice", ', ConditionExpression="attribute_not_exists(pk)"'),
        money=True,
    ),
    Mutation(
        "one notice for all limits",
        "A changed limit has notices of its own.",
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
    Mutation(
        "a threshold noticed one too late",
        "A threshold is reached when the total equals it.",
        Edit("thresholds", "total * 100 >= each", "total * 100 > each"),
    ),
    Mutation(
        "a changed plan ignored",
        "A lowered limit is checked at once.",
        Edit(
            "watch_subjects",
            "yield $WatchSubject($period_of_change(record, deps), plan=pk.removeprefix($PLAN_PREFIX)), $EACH_FEATURE",
            "return",
        ),
        money=True,
    ),
    Mutation(
        "a failed check treated as done",
        "A threshold is noticed, even after a crash.",
        Edit("watch_batch", "return next(...).sequence_numbers[0]"),
        money=True,
    ),
    Mutation(
        "only the limit itself noticed",
        "Each percentage in the plan's warnings is noticed, too.",
        Edit("thresholds", "(*entitlement.warn_at, $REACHED)", "($REACHED,)"),
    ),
    Mutation(
        "a past period's counter checked in the present period",
        "A threshold belongs to the period in which the usage counts.",
        Edit("watch_subjects", "counter.billing_period", "$billing_period_of(deps.now())"),
    ),
    Mutation(
        "a changed limit checked in the period of its delivery",
        "A lowered limit is checked for the period in which it was lowered, however late the stream is.",
        Edit("period_of_change", "if written_at_s is None else datetime.fromtimestamp(...)"),
    ),
    Mutation(
        "a changed organization ignored",
        "A limit is checked at once after an organization's plan or own limit has changed.",
        Edit(
            "watch_subjects",
            "yield $WatchSubject($period_of_change(record, deps), "
            "organization=pk.removeprefix($ORGANIZATION_PREFIX)), $EACH_FEATURE",
            "return",
        ),
        money=True,
    ),
    Mutation(
        "a notice cached before it is stored",
        "A threshold is noticed, even by an execution environment that failed before.",
        Edit(
            "put_notice",
            "try:",
            """
            deps.noticed.add(key)
            try:
            """,
        ),
        money=True,
    ),
    Mutation(
        "a notice of one organization treated as a notice of all",
        "Each organization reaches its own thresholds in each period.",
        Edit("put_notice", 'key = (item["pk"]["S"], item["sk"]["S"])', 'key = ("", item["sk"]["S"])'),
        money=True,
    ),
    Mutation(
        "a failed check reported from its last record",
        "The stream sends again from the first record of a failed check.",
        Edit("watch_batch", "sequence_numbers[0]", "sequence_numbers[-1]"),
        money=True,
    ),
    Mutation(
        "an unreadable organization stops the batch",
        "A malformed item delays no other organization's notices.",
        Edit(
            "skip_malformed",
            'facts = {"reason": str(malformed), **whose}',
            """
            facts = {"reason": str(malformed), **whose}
            raise $OutOfTime from malformed
            """,
        ),
    ),
    Mutation(
        "a check started too late to end",
        "A check that could outlast the invocation does not start.",
        Edit("notice_usage", "$watch_check_time()"),
    ),
    Mutation(
        "a plan's earlier check continued after another change",
        "Each organization on a plan is checked after the plan's last change.",
        Edit("notice_plan", "or not sequence_numbers <= reached.sequence_numbers"),
    ),
    Mutation(
        "a finished plan checked again for the rest of the batch",
        "The stream continues after a plan's check, however many organizations are on the plan.",
        Edit("notice_plan", "[subject] = replace(...)", ".pop(subject, None)"),
    ),
    Mutation(
        "an unreadable organization stops the check of its plan",
        "A malformed organization delays no other organization on its plan.",
        Edit(
            "notice_plan",
            """
            with $skip_malformed(...):
                $notice_usage(name, {$EACH_FEATURE}, subject.billing_period)
            """,
            "$notice_usage(name, {$EACH_FEATURE}, subject.billing_period)",
        ),
    ),
    Mutation(
        "a further page read too late to end",
        "A read that could outlast the invocation does not start, however many pages a counter has.",
        Edit("watched_total", "$watch_check_time()"),
    ),
)
