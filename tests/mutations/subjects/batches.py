"""Mutations of how a batch is recorded."""

from tests.mutations.mutation import Edit, Mutation

BATCHES = (
    Mutation(
        "a duplicate key in a batch answered like the first",
        "A key twice in a batch is one record: the second use is a replay or a conflict.",
        Edit("settle_entries", "$match_record(...)", "$Recorded(stored.usage, replayed=False, shard=stored.shard)"),
        money=True,
    ),
    Mutation(
        "a key twice in one transaction",
        "A key that is twice in a batch is once in a transaction.",
        Edit("choose_usages", "if usage.idempotency_key in claimed:", "if False:"),
    ),
    Mutation(
        "the smallest record of a batch accepted first",
        "A hard limit accepts the records of a batch in their order.",
        Edit(
            "choose_usages",
            "for entry in $open_entries:",
            "for entry in sorted($open_entries, key=lambda each: each.usage.quantity):",
        ),
    ),
    Mutation(
        "the whole room under a hard limit given to each record of a batch",
        "A hard limit accepts the records of a batch that fit together.",
        Edit("choose_usages", "+ wanted[name] +", "+"),
        money=True,
    ),
    Mutation(
        "a record in another transaction treated as absent",
        "No record is refused while another transaction can still record it.",
        Edit("find_records", "looked.busy.extend(...)", "del held"),
        money=True,
    ),
    Mutation(
        "an unanswered record shown as refused",
        "A record that is possibly recorded by the deadline is shown as unavailable.",
        Edit("apply_deadline", "= unavailable", "= $OverLimit()"),
        money=True,
    ),
    Mutation(
        "a record in another transaction shown as refused",
        "A record that another transaction holds is tried again.",
        Edit("plan_step", "batch.busy_keys or"),
        money=True,
    ),
    Mutation(
        "a batch failed by one record",
        "One invalid record never fails the others of its batch.",
        Edit("record_batch", "outcomes[index] = invalid", "raise"),
    ),
    Mutation(
        "a batch refused without a read of stored records",
        "A stored usage is acknowledged, even in a batch that is not allowed to record anything new.",
        Edit("find_step", "$find_records(...)", "ledger.$FoundRecords([], {}, [])"),
        money=True,
    ),
    Mutation(
        "a batch's first quantity counted for all of it",
        "A counter's update adds the quantities of all its records.",
        Edit("addition_quantity", "sum(...)", "self.usages[0].quantity"),
        money=True,
    ),
    Mutation(
        "a batch's records counted as one",
        "A counter's count is the number of its records.",
        Edit("counter_update", '":count": {"N": str(...)}', '":count": {"N": "1"}'),
        money=True,
    ),
    Mutation(
        "room used that a key's other content can need",
        "A hard limit accepts the records of a batch in their order, even if a key names two features.",
        Edit(
            "choose_usages",
            """
            != usage.fingerprint:
                blocked.add(...)
            """,
            """
            != usage.fingerprint:
                pass
            """,
        ),
    ),
    Mutation(
        "room used that a held record can need",
        "A hard limit accepts the records of a batch in their order, even if another transaction holds one.",
        Edit(
            "choose_usages",
            """
            if limit is not None:
                blocked.add(...)
            """,
            "pass",
        ),
        money=True,
    ),
    Mutation(
        "a key passed to a later record although an earlier one can fit",
        "A batch has the same outcome as its records one by one, even if an earlier record is a replay.",
        Edit("choose_usages", "or counter.at_least + usage.quantity <= limit"),
    ),
    Mutation(
        "a record refused before its counter is read",
        "No record is refused at a hard limit before its counter is read.",
        Edit("plan_step", "or any(...)"),
        money=True,
    ),
    Mutation(
        "a batch that waits for an unread counter",
        "Only records that the hard limit can refuse wait for their counter.",
        Edit("apply_counter", "counter.is_unanswered = True", "counter.is_unanswered = batch.is_waiting = True"),
    ),
    Mutation(
        "a key passed to a later record before the counter is read",
        "A batch has the same outcome as its records one by one, even if a counter is read late.",
        Edit("choose_usages", "counter.is_unanswered or"),
    ),
    Mutation(
        "an unread counter never read again",
        "A counter that could not be read is read again.",
        Edit("apply_wait", "counter.is_unanswered = False", "pass"),
    ),
    Mutation(
        "a batch failed by an unreadable record",
        "One unreadable record fails no other record of its batch.",
        Edit("cancellation", "found.malformed[subject.idempotency_key] = malformed", "raise malformed"),
    ),
    Mutation(
        "more items than a transaction takes",
        "A transaction has at most 100 items, the counters' updates included.",
        Edit("pack_transaction", "left = $MAX_ACTIONS", "left = 2 * $MAX_ACTIONS"),
    ),
    Mutation(
        "a busy counter tried first again",
        "A counter that stays busy delays no other counter of its batch.",
        Edit("pack_transaction", "sorted(...)", "list(chosen)"),
    ),
    Mutation(
        "all counters tried together however busy they are",
        "After repeated conflicts, fewer counters are tried together.",
        Edit("apply_cancellation", "max(...)", "len(additions)"),
    ),
    Mutation(
        "available shards of a cancelled batch not counted",
        "A shard that was available lowers the need for further pages.",
        Edit("teach_counters", "$shard_available(...)", "pass"),
    ),
    Mutation(
        "one unreadable total fails its batch",
        "An unreadable counter fails only its own records.",
        Edit("total_of_counter", "return malformed", "raise"),
    ),
    Mutation(
        "one event id for a batch",
        "Each record of a batch has its own event.",
        Edit(
            "usage_of_command",
            "event_id=str(...)",
            'event_id=str(uuid.UUID(hashlib.md5(f"{command.trace_id} {now}".encode()).hexdigest()))',
            imports="hashlib",
        ),
        money=True,
    ),
    Mutation(
        "expired records acknowledged in a batch",
        "An expired record acknowledges nothing, even in a batch.",
        Edit("find_records", "and not $has_expired(...)"),
        money=True,
    ),
    Mutation(
        "a refusal's total without what its batch has found recorded",
        "A refusal's total includes what its batch has found recorded.",
        Edit("settle_entries", "batch.counters[stored.usage.counter].is_read = False", "pass"),
    ),
    Mutation(
        "a refused record's total read once more",
        "A refusal costs no read of a total that the batch knows.",
        Edit("batch_totals", "and not batch.counters[entry.counter].is_read"),
    ),
    Mutation(
        "a refused record's total from before a wait",
        "A refusal names a total that was read after the last wait.",
        Edit("outdate_totals", "counter.is_read = False", "pass"),
    ),
    Mutation(
        "two limits of one feature in a batch",
        "All records of a batch are answered with the limits of one plan.",
        Edit("apply_terms", "batch.entries", "batch.open"),
    ),
    Mutation(
        "a refused record answered with another limit",
        "A refusal names the limit that refused the record.",
        Edit("apply_terms", "if entry.outcome is None or isinstance(entry.outcome, $Recorded):", "if True:"),
    ),
    Mutation(
        "a busy record in each transaction of its batch",
        "Records that other transactions hold are left out while others of the batch are tried.",
        Edit("plan_step", "releases_keys=not $choose_usages(batch)", "releases_keys=True"),
    ),
    Mutation(
        "a counter known to be soft read for a hard limit",
        "A counter that is known to be soft is not read for a hard limit.",
        Edit("read_counter_step", "if $is_known_soft(counter):", "if False:"),
    ),
    Mutation(
        "a counter read for a hard limit after a commit under it",
        "After a commit under a hard limit, a refusal needs no read of the counter.",
        Edit("apply_commit", "counter.mode_is_known = counter.mode_is_known or addition.hard_limit is not None"),
    ),
    Mutation(
        "a full counter's total in the cancellation ignored",
        "The total of a full counter decides what fits.",
        Edit(
            "apply_cancellation", "counter.at_least, counter.is_read, counter.mode_is_known = total, True, True", "pass"
        ),
    ),
    Mutation(
        "a held record never tried again",
        "A record that another transaction held is tried again after a wait.",
        Edit("apply_wait", "if step.releases_keys:", "if False:"),
    ),
    Mutation(
        "a held record refused with its neighbours",
        "A record is refused only after a read of its own key.",
        Edit("apply_found", "if entry.usage.idempotency_key in keys:", "if True:"),
        money=True,
    ),
    Mutation(
        "few counters tried together until a batch ends",
        "After a commit, more counters are tried together again.",
        Edit("apply_commit", "min(...)", "batch.counters_per_transaction"),
    ),
    Mutation(
        "waits as long after a commit as before",
        "Waits are short again after a commit.",
        Edit("apply_commit", "batch.waits = 0"),
    ),
    Mutation(
        "a longer wait although there are more shards",
        "The first wait after a counter has spread is a short one.",
        Edit("back_off_step", "0 if is_wider else step.attempt", "step.attempt"),
    ),
    Mutation(
        "a found commit treated as the commit of an earlier record with the same key",
        "A refused record stays refused, even if a later one with its key is recorded and the response lost.",
        Edit("settle_entries", "ids.index(event_id) if event_id in ids else 0", "0"),
    ),
    Mutation(
        "a batch refused whole although some of it is stored",
        "A stored usage is acknowledged, even beside records that are not allowed.",
        Edit("record_usages", "if len(problems) == len(batch.entries):", "if problems:"),
        money=True,
    ),
    Mutation(
        "twice as many steps as a batch is allowed to take",
        "A batch ends after a fixed number of steps.",
        Edit("settle_batch", "range($MAX_STEPS)", "range(2 * $MAX_STEPS)"),
    ),
)
