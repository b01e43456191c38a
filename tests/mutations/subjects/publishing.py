"""Mutations of how a usage record becomes an event on the bus."""

from tests.mutations.mutation import Edit, Mutation

PUBLISHING = (
    Mutation(
        "failed entries ignored",
        "Each usage record is published: entries that failed are sent again.",
        Edit("send_chunk", "again.append(due)", "continue"),
        money=True,
    ),
    Mutation(
        "a wrong sequence number reported",
        "The stream sends again from the first unfinished record.",
        Edit(
            "finish_chunk",
            "(each for each in chunk if each in left)",
            "(each for each in reversed(chunk) if each in left)",
        ),
        money=True,
    ),
    Mutation(
        "no sequence number reported",
        "Records that could not be published go back to the stream.",
        Edit("publish", "return $sequence_number(...)", "return None"),
        money=True,
    ),
    Mutation(
        "sending continues after a failed chunk",
        "Records after a failed chunk are not sent, as the stream delivers them again.",
        Edit(
            "finish_chunks",
            """
            if failed.is_set():
                break
            """,
        ),
    ),
    Mutation(
        "a lost response of the bus treated as success",
        "A usage counts as published only if the bus confirms it.",
        Edit(
            "send_chunk",
            """
            if not $is_of_the_entries(error):
                return chunk
            """,
            """
            if not $is_of_the_entries(error):
                return []
            """,
        ),
        money=True,
    ),
    Mutation(
        "accepted entries sent again with failed ones",
        "Only the entries that failed are sent again.",
        Edit("send_chunk", "return again", "return chunk if again else []"),
    ),
    Mutation(
        "more entries in a call than the bus takes",
        "A call holds at most ten entries.",
        Edit("CHUNK", "$CHUNK = 10", "$CHUNK = 11"),
    ),
    Mutation(
        "a new event id for each delivery",
        "Each delivery of one fact has the same id.",
        Edit("envelope", '"id": fact.id,', '"id": str(uuid.uuid4()),', imports="uuid"),
        money=True,
    ),
    Mutation(
        "an event id derived from the key",
        "When a key is free again, its next usage has another event id.",
        Edit(
            "usage_of_command",
            "event_id=str(...)",
            'event_id=str(uuid.UUID(hashlib.md5(f"{command.organization} '
            '{command.idempotency_key}".encode()).hexdigest()))',
            imports="hashlib",
        ),
        money=True,
    ),
    Mutation(
        "an overwrite of an expired record not published",
        "A usage under a key that is free again is published like any other.",
        Edit("new_fact", 'if record.get(...) == "REMOVE":', 'if record.get(...) != "INSERT":'),
        money=True,
    ),
    Mutation(
        "a record changed by hand published again",
        "A usage is new only if the old image lacks its event id.",
        Edit("new_fact", 'or fact.id == $mapping_in(...).get("S")'),
    ),
    Mutation(
        "a record that TTL removes treated as malformed",
        "A removed record is neither usage nor a failure.",
        Edit(
            "new_fact",
            """
            if record.get(...) == "REMOVE":
                return None
            """,
        ),
    ),
    Mutation(
        "counters treated as usage records",
        "Only usage records become events.",
        Edit("fact_of_image", "not isinstance(pk, str) or pk.startswith(...)", "True"),
    ),
    Mutation(
        "a malformed record reported instead of stored",
        "A record that can never be published delays no other: it is stored and counts as done.",
        Edit("finish_chunk", "and not $store_unpublishable(...)"),
    ),
    Mutation(
        "a malformed record dropped",
        "A record that can never be published is stored.",
        Edit("finish_chunk", "isinstance(...) and not $store_unpublishable(...)", "False"),
    ),
    Mutation(
        "records of another source treated as the stream's",
        "An event that is not a stream batch raises a named error, and none of it counts as done.",
        Edit("records_in", "and not any(...)"),
    ),
    Mutation(
        "an event of another source logged whole",
        "The log shows only the keys of an event that is not a stream batch.",
        Edit("records_in", 'extra={"keys": keys}', 'extra={"keys": keys, "event": event}'),
    ),
    Mutation(
        "malformed records stored before others are sent",
        "Malformed records delay no others, however many there are.",
        Edit(
            "publish",
            "chunks = [",
            """
            for each in to_do:
                if isinstance(each, $MalformedRecord):
                    $store_unpublishable(each.record, each.reason, deps, remaining_s, counts)
            chunks = [
            """,
        ),
    ),
    Mutation(
        "an entry that the bus never accepts sent again and again",
        "An entry that the bus can never accept delays no other: it is stored and counts as done.",
        Edit("send_chunk", "never = code in $NEVER_ACCEPTED", "never = False"),
    ),
    Mutation(
        "a call dropped whole for one entry",
        "An entry that fails the whole call loses no other entry.",
        Edit("send_chunk", "if len(chunk) > 1:", "if not chunk:"),
        money=True,
    ),
    Mutation(
        "the rest of a split call dropped when one part fails",
        "A split call loses none of its parts.",
        Edit(
            "send_chunk",
            "return [left for due in chunk for left in $send_chunk(...)]",
            """
            for due in chunk:
                left = $send_chunk(...)
                if left:
                    return left
            return []
            """,
        ),
        money=True,
    ),
    Mutation(
        "a record that could not be stored reported before an earlier unsent one",
        "The first unfinished record is reported.",
        Edit(
            "finish_chunk",
            "(each for each in chunk if each in left)",
            "iter(sorted(left, key=lambda each: isinstance(each, $DueEvent)))",
        ),
    ),
    Mutation(
        "an unsent record reported before an earlier one that could not be stored",
        "The first unfinished record is reported.",
        Edit("finish_chunk", "(each for each in chunk if each in left)", "iter(left)"),
    ),
    Mutation(
        "calls started after one has failed",
        "Records after a failed call are not sent twice.",
        Edit(
            "finish_chunks",
            """
            if not is_done:
                failed.set()
            """,
        ),
    ),
    Mutation(
        "an unforeseen failure in a thread ignored",
        "An unforeseen failure fails the invocation, and the batch comes again.",
        Edit("finish_chunks", "finishing.result", "None if finishing.exception() else finishing.result"),
    ),
    Mutation(
        "failed entries reported in another order",
        "All records from the first unfinished one on are sent again.",
        Edit("send_chunk", "again.append(due)", "again.insert(0, due)"),
    ),
    Mutation(
        "a failed write to the failure bucket treated as a success",
        "A record counts as done only after it is stored.",
        Edit(
            "store_unpublishable",
            """
            extra=facts)
            return False
            """,
            """
            extra=facts)
            return True
            """,
        ),
        money=True,
    ),
    Mutation(
        "a malformed record stored under a new name each time",
        "A record that is delivered twice is stored once.",
        Edit("store_unpublishable", "{$UNPUBLISHABLE}/{name}.json", "{$UNPUBLISHABLE}/{os.urandom(32).hex()}.json"),
    ),
    Mutation(
        "a record stored once for each reason",
        "A record that fails for two reasons is stored once.",
        Edit("store_unpublishable", "json.dumps(record, sort_keys", "json.dumps([reason, record], sort_keys"),
    ),
    Mutation(
        "a bus call started too late to end",
        "A call that could outlast the invocation does not start.",
        Edit(
            "send_chunk",
            """
            if remaining_s() < $RESERVE_S:
                return chunk
            """,
        ),
    ),
    Mutation(
        "metadata published as text",
        "An event has the caller's metadata as a JSON object.",
        Edit("usage_recorded", "$object_in_text(...)", "usage.metadata"),
    ),
    Mutation(
        "an event with escapes for all but ASCII",
        "Ten of the largest events fit into one call.",
        Edit("compact_json", "ensure_ascii=False, "),
    ),
    Mutation(
        "notices not published",
        "Every notice becomes an event.",
        Edit("fact_of_image", "$limit_noticed(...)", "None"),
        money=True,
    ),
    Mutation(
        "an approaching limit published as reached",
        "`billing.limit.reached` means that the limit is reached; an earlier threshold only approaches it.",
        Edit("limit_noticed", "if notice.percentage == $REACHED:", "if True:"),
    ),
)
