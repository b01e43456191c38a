"""Mutations of how a batch is recorded."""

from tests.mutations.mutation import Edit, Mutation

BATCHES = (
    Mutation(
        "the second of a key in a batch answered like the first",
        "The same key twice in a batch is one record: the second is a replay, or a reuse of the key.",
        (Edit("batch_settle", "$match_record(...)", "$Recorded(stored.usage, replayed=False, shard=stored.shard)"),),
        money=True,
    ),
    Mutation(
        "a key twice in one transaction",
        "A key that stands in a batch twice goes into one transaction once.",
        (Edit("batch_plan", "if usage.idempotency_key in claimed:", "if False:"),),
    ),
    Mutation(
        "the smallest of a batch admitted first",
        "A hard limit admits the records of a batch in their order.",
        (
            Edit(
                "batch_plan",
                "for entry in $batch_open():",
                "for entry in sorted($batch_open(), key=lambda each: each.usage.quantity):",
            ),
        ),
    ),
    Mutation(
        "a hard limit's room given to every record of a batch",
        "What a hard limit has room for is recorded, though not all of the batch fits.",
        (Edit("batch_plan", "+ wanted[usage.counter] +", "+"),),
        money=True,
    ),
    Mutation(
        "a record that a transaction holds taken for absent",
        "Nothing is refused while a transaction that may record it is under way.",
        (Edit("find_records", "looked.held.extend(...)", "del held"),),
        money=True,
    ),
    Mutation(
        "what was not answered in time told as refused",
        "What may have been recorded when the deadline came is told as unavailable.",
        (Edit("batch_give_up", "= unavailable", "= $LimitExceeded(0)"),),
        money=True,
    ),
    Mutation(
        "what others hold told as refused",
        "A record that another transaction holds is tried again, and not given up.",
        (Edit("batch_record", "elif self._aside or self._unread:", "elif False:"),),
        money=True,
    ),
    Mutation(
        "a batch failed by one record",
        "One bad record never fails its neighbours.",
        (Edit("record_batch", "outcomes[index] = invalid", "raise"),),
    ),
    Mutation(
        "a batch's refusals without a look at what was recorded",
        "Usage once counted is acknowledged for ever after, also in a batch that may record nothing new.",
        (Edit("batch_refuse_unless_stored", ".$find_records(...)", ".$StoredAmong([], {}, [])"),),
        money=True,
    ),
    Mutation(
        "a batch's first quantity counted for all",
        "A counter's one update in a transaction adds the quantities of all its records.",
        (Edit("increment_quantity", "sum(...)", "self.usages[0].quantity"),),
        money=True,
    ),
    Mutation(
        "a batch's records counted as one",
        "A counter's count is the number of its records.",
        (Edit("counter_update", '":count": {"N": str(...)}', '":count": {"N": "1"}'),),
        money=True,
    ),
    Mutation(
        "a rival for a record taken for a busy counter",
        "A conflict on a record says nothing about the counter.",
        (Edit("batch_apply_cancellation", "if not cancelled.busy_records:", "if True:"),),
    ),
    Mutation(
        "room given away that a key's other content may take",
        "A hard limit admits the records of a batch in their order, also where a key stands for two features.",
        (
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
    ),
    Mutation(
        "room of a held record given away",
        "A hard limit admits the records of a batch in their order, also where another transaction holds one of them.",
        (
            Edit(
                "batch_plan",
                """
                if limit is not None:
                    waiting.add(...)
                """,
                "pass",
            ),
        ),
        money=True,
    ),
    Mutation(
        "a key given away whose record fits when another takes no room",
        "What sending them one by one would have come to, also where what is before a record is no new one.",
        (Edit("batch_plan", "or self._at_least[usage.counter] + usage.quantity <= limit"),),
    ),
    Mutation(
        "refused although the counter has not answered",
        "Nobody is refused at a hard limit before it is known what its counter holds.",
        (Edit("batch_record", "or self._unread"),),
        money=True,
    ),
    Mutation(
        "a batch that waits for a counter that does not answer",
        "Only who is to be refused waits for a hard-limited counter that does not answer.",
        (
            Edit(
                "batch_read_counter",
                "$read_first_page(counter)",
                "until_answered(lambda: $read_first_page(counter), self._effort)",
            ),
        ),
    ),
    Mutation(
        "a key given away before it is known whether a limit holds",
        "What sending them one by one would have come to, also where a counter does not answer at once.",
        (Edit("batch_plan", "usage.counter in self._unread or"),),
    ),
    Mutation(
        "a counter that did not answer never asked again",
        "What sending them one by one would have come to, also where a counter does not answer at once.",
        (Edit("batch_wait", "self._unread.clear()"),),
    ),
    Mutation(
        "a batch failed by a stored record that cannot be read",
        "One record that cannot be read holds up nobody else.",
        (Edit("cancellation", "found.malformed[subject.idempotency_key] = malformed", "raise malformed"),),
    ),
    Mutation(
        "more than a transaction takes",
        "A transaction has at most 100 items, the counters' updates included.",
        (Edit("batch_fill_transaction", "left = $MOST_ACTIONS", "left = 2 * $MOST_ACTIONS"),),
    ),
    Mutation(
        "a busy counter tried first again",
        "A counter that stays busy holds up nobody else of its batch.",
        (Edit("batch_fill_transaction", "sorted(...)", "list(chosen)"),),
    ),
    Mutation(
        "all counters tried together however busy they are",
        "Where one of many counters is busy again and again, fewer are tried together.",
        (Edit("batch_apply_cancellation", "max(...)", "len(additions)"),),
    ),
    Mutation(
        "free shards of a cancelled batch not learned",
        "What would have been let in speaks against further pages.",
        (Edit("batch_learn_shards", "$shard_available(...)", "pass"),),
    ),
    Mutation(
        "one unreadable total fails its batch",
        "A counter that cannot be read is told of its own records only.",
        (Edit("batch_total", "return malformed", "raise"),),
    ),
    Mutation(
        "one event id for a batch",
        "Each record of a batch is a fact of its own, with an event of its own.",
        (
            Edit(
                "usage_from_command",
                "event_id=str(...)",
                'event_id=str(uuid.UUID(hashlib.md5(f"{command.trace_id} {now}".encode()).hexdigest()))',
                imports="hashlib",
            ),
        ),
        money=True,
    ),
    Mutation(
        "expired records acknowledged in a batch",
        "A key that is free again is a new one, also in a batch.",
        (Edit("find_records", "and not $has_expired(...)"),),
        money=True,
    ),
)
