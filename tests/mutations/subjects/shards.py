"""Mutations of how a counter spreads over shards and pages."""

from tests.mutations.mutation import Edit, Mutation

SHARDS = (
    Mutation(
        "the busy shard chosen again",
        "After a conflict the next try uses another shard.",
        Edit("choose_shard", "while shard == busy:", "while False:"),
    ),
    Mutation(
        "a busy counter kept in its shards",
        "A counter whose shard was busy spreads over more shards.",
        Edit("apply_cancellation", "batch.busy.append(...)", "pass"),
    ),
    Mutation(
        "a shard treated as available although a record was held",
        "A conflict on a record says nothing about the counter.",
        Edit("teach_counters", "if not cancelled.busy_records:", "if True:"),
    ),
    Mutation(
        "a counter widened after the deadline",
        "A read of a counter that could outlast the invocation does not start.",
        Edit("shard_busy", "$check_deadline()"),
    ),
    Mutation(
        "an increment of an unannounced page",
        "A page of shards is announced before its first increment.",
        Edit("shard_state_busy", "if self.width < $SHARDS_PER_PAGE:", "if self.width < 4 * $SHARDS_PER_PAGE:"),
        money=True,
    ),
    Mutation(
        "a page used without an announcement",
        "An execution environment announces further pages before it uses one.",
        Edit("widen", "$announce_pages(...)", "wanted"),
        money=True,
    ),
    Mutation(
        "an announcement taken back",
        "The number of announced pages only grows.",
        Edit("announce_pages", 'ConditionExpression="attribute_not_exists(#pages) OR #pages < :pages",'),
        money=True,
    ),
    Mutation(
        "an announcement with usage of its own",
        "An announcement adds nothing to the total.",
        Edit("announce_pages", '":none": {"N": "0"}', '":none": {"N": "1"}'),
        money=True,
    ),
    Mutation(
        "a counter's last page not read",
        "The total is the sum of all pages.",
        Edit("each_further_page", "for page in range(1, pages))", "for page in range(1, pages - 1))"),
        money=True,
    ),
    Mutation(
        "a feature's further pages not read",
        "The sum of all pages decides whether a limit is reached.",
        Edit("checked_total", "+ $further_pages(...)"),
    ),
    Mutation(
        "a summary of first pages",
        "A summary is the sum of all pages of every counter.",
        Edit("summary_totals", "page.total + $further_pages(...)", "page.total"),
        money=True,
    ),
    Mutation(
        "thresholds of first pages",
        "Thresholds apply to the sum of all pages.",
        Edit("watched_total", "range(...)", "range(0)"),
        money=True,
    ),
    Mutation(
        "further pages under one partition key",
        "Each further page of shards has a partition key of its own.",
        Edit("page_partition", "{counter.feature}#{page}", "{counter.feature}#1"),
    ),
    Mutation(
        "a cached total without later increments",
        "A cached total includes the increments that its execution environment has committed since.",
        Edit("increment_committed", "total = total._replace(...)", "pass"),
        money=True,
    ),
    Mutation(
        "a cached total without an increment whose response was lost",
        "A cached total includes the increments of its execution environment, even if a response was lost.",
        Edit("teach_counters", "$increment_committed(...)", "pass"),
        money=True,
    ),
    Mutation(
        "a total cached without expiry",
        "A cached total is read again after a second.",
        Edit("cached_total", "and $seconds_since(...) < total.for_s"),
        money=True,
    ),
    Mutation(
        "a total of a single page cached",
        "While a counter has one page, its total includes all acknowledged usage.",
        Edit("cached_total", "known.state.pages > 1 and"),
        money=True,
    ),
    Mutation(
        "a replay answered with a cached total",
        "A replay's total includes the replayed usage.",
        Edit("batch_totals", "consistent[counter] |= entry.outcome.replayed", "consistent[counter] |= False"),
        money=True,
    ),
    Mutation(
        "other execution environments' shards not learned",
        "A new execution environment spreads a counter as widely as the stored shards show.",
        Edit("read_first_page", "$shards_seen(...)", "known.state"),
    ),
)
