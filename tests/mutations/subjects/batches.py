"""Mutations of how a batch is recorded."""

from tests.mutations.mutation import Edit, Mutation

BATCHES = (
    Mutation(
        "a duplicate key in a batch answered like the first",
        "A key twice in a batch is one record: the second is a replay or a reuse of the key.",
        Edit("batch_settle", "$match_record(...)", "$Recorded(stored.usage, replayed=False, shard=stored.shard)"),
        money=True,
    ),
    Mutation(
        "a key twice in one transaction",
        "A key that is twice in a batch is once in a transaction.",
        Edit("batch_plan", "if usage.idempotency_key in claimed:", "if False:"),
    ),
    Mutation(
        "the smallest of a batch admitted first",
        "A hard limit accepts the records of a batch in their order.",
        Edit(
            "batch_plan",
            "for entry in $batch_open():",
            "for entry in sorted($batch_open(), key=lambda each: each.usage.quantity):",
        ),
    ),
    Mutation(
        "a hard limit's room given to each record of a batch",
        "A hard limit accepts the records of a batch that fit together.",
        Edit("batch_plan", "+ wanted[usage.counter] +", "+"),
        money=True,
    ),
    Mutation(
        "a record in another transaction taken for absent",
        "No record is refused while another transaction may be recording it.",
        Edit("find_records", "looked.busy.extend(...)", "del held"),
        money=True,
    ),
    Mutation(
        "an unanswered record shown as refused",
        "A record that may have been recorded by the deadline is shown as unavailable.",
        Edit("batch_give_up", "= unavailable", "= $LimitExceeded(0)"),
        money=True,
    ),
    Mutation(
        "a record in another transaction shown as refused",
        "A record that another transaction holds is tried again.",
        Edit("batch_record", "elif self._aside or self._unread:", "elif False:"),
        money=True,
    ),
    Mutation(
        "a batch failed by one record",
        "One invalid record never fails the others of its batch.",
        Edit("record_batch", "outcomes[index] = invalid", "raise"),
    ),
    Mutation(
        "a batch refused without a read of stored records",
        "A stored usage is acknowledged, even in a batch that may record nothing new.",
        Edit("batch_refuse_unless_stored", ".$find_records(...)", ".$StoredAmong([], {}, [])"),
        money=True,
    ),
    Mutation(
        "a batch's first quantity counted for all of it",
        "A counter's update adds the quantities of all its records.",
        Edit("increment_quantity", "sum(...)", "self.usages[0].quantity"),
        money=True,
    ),
    Mutation(
        "a batch's records counted as one",
        "A counter's count is the number of its records.",
        Edit("counter_update", '":count": {"N": str(...)}', '":count": {"N": "1"}'),
        money=True,
    ),
    Mutation(
        "a conflict on a batch's record taken for a busy counter",
        "A conflict on a record says nothing about the counter.",
        Edit("batch_apply_cancellation", "if not cancelled.busy_records:", "if True:"),
    ),
    Mutation(
        "room given away that a key's other content may take",
        "A hard limit accepts the records of a batch in their order, even if a key names two features.",
        Edit(
            "batch_plan",
            """
            != usage.fingerprint:
                waiting.add(...)
            """,
            """
            != usage.fingerprint:
                pass
            """,
        ),
    ),
    Mutation(
        "room of a held record given away",
        "A hard limit accepts the records of a batch in their order, even if another transaction holds one.",
        Edit(
            "batch_plan",
            """
            if limit is not None:
                waiting.add(...)
            """,
            "pass",
        ),
        money=True,
    ),
    Mutation(
        "a key given away although its record may fit",
        "A batch has the same outcome as its records one by one, even if an earlier record is a replay.",
        Edit("batch_plan", "or self._at_least[usage.counter] + usage.quantity <= limit"),
    ),
    Mutation(
        "a record refused before its counter is read",
        "No record is refused at a hard limit before its counter is read.",
        Edit("batch_record", "or self._unread"),
        money=True,
    ),
    Mutation(
        "a batch that waits for an unread counter",
        "Only likely refusals wait for a counter under a hard limit.",
        Edit(
            "batch_read_counter",
            """
            self._unread.add(counter)
            return
            """,
            """
            self._effort.$back_off(0)
            return self.$batch_read_counter(counter)
            """,
        ),
    ),
    Mutation(
        "a key given away before its counter is read",
        "A batch has the same outcome as its records one by one, even if a counter is read late.",
        Edit("batch_plan", "usage.counter in self._unread or"),
    ),
    Mutation(
        "an unread counter never read again",
        "A counter that could not be read is read again.",
        Edit("batch_wait", "self._unread.clear()"),
    ),
    Mutation(
        "a batch failed by an unreadable record",
        "One unreadable record fails no other record of its batch.",
        Edit("cancellation", "found.malformed[subject.idempotency_key] = malformed", "raise malformed"),
    ),
    Mutation(
        "more items than a transaction takes",
        "A transaction has at most 100 items, the counters' updates included.",
        Edit("batch_fill_transaction", "left = $MAX_ACTIONS", "left = 2 * $MAX_ACTIONS"),
    ),
    Mutation(
        "a busy counter tried first again",
        "A counter that stays busy delays no other counter of its batch.",
        Edit("batch_fill_transaction", "sorted(...)", "list(chosen)"),
    ),
    Mutation(
        "all counters tried together however busy they are",
        "After repeated conflicts, fewer counters are tried together.",
        Edit("batch_apply_cancellation", "max(...)", "len(additions)"),
    ),
    Mutation(
        "available shards of a cancelled batch not counted",
        "A shard that was available lowers the need for further pages.",
        Edit("batch_learn_shards", "$shard_available(...)", "pass"),
    ),
    Mutation(
        "one unreadable total fails its batch",
        "An unreadable counter fails only its own records.",
        Edit("batch_total", "return malformed", "raise"),
    ),
    Mutation(
        "one event id for a batch",
        "Each record of a batch has its own event.",
        Edit(
            "usage_from_command",
            "event_id=str(...)",
            'event_id=str(uuid.UUID(hashlib.md5(f"{command.trace_id} {now}".encode()).hexdigest()))',
            imports="hashlib",
        ),
        money=True,
    ),
    Mutation(
        "expired records acknowledged in a batch",
        "An expired record acknowledges nothing, not in a batch either.",
        Edit("find_records", "and not $has_expired(...)"),
        money=True,
    ),
)
