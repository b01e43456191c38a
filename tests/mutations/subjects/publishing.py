"""Mutations of how a usage record becomes an event on the bus."""

from tests.mutations.mutation import Edit, Mutation

PUBLISHING = (
    Mutation(
        "failed entries ignored",
        "An event is published for every usage: what the bus did not take is sent again.",
        (Edit("send_chunk", "again.append(due)", "continue"),),
        money=True,
    ),
    Mutation(
        "a wrong sequence number reported",
        "The stream sends again from the first record that is not done.",
        (
            Edit(
                "finish_chunk",
                "(each for each in chunk if each in left)",
                "(each for each in reversed(chunk) if each in left)",
            ),
        ),
        money=True,
    ),
    Mutation(
        "no sequence number reported",
        "What could not be published goes back to the stream.",
        (Edit("publish", "return $sequence_number(...)", "return None"),),
        money=True,
    ),
    Mutation(
        "sending goes on after a chunk that failed",
        "What the stream sends again anyway is not sent before.",
        (
            Edit(
                "finish_chunks",
                """
                if failed.is_set():
                    break
                """,
            ),
        ),
    ),
    Mutation(
        "a lost answer of the bus taken for success",
        "A usage is published only when the bus said so.",
        (
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
        ),
        money=True,
    ),
    Mutation(
        "failed entries sent again with those that were taken",
        "Only the entries that failed are sent again.",
        (Edit("send_chunk", "return again", "return chunk if again else []"),),
    ),
    Mutation(
        "more entries in a call than the bus takes",
        "A call holds at most ten entries.",
        (Edit("CHUNK", "$CHUNK = 10", "$CHUNK = 11"),),
    ),
    Mutation(
        "event id derived per delivery",
        "Every delivery of one fact carries the same id.",
        (Edit("envelope", '"id": fact.id,', '"id": str(uuid.uuid4()),', imports="uuid"),),
        money=True,
    ),
    Mutation(
        "event id derived from the key",
        "When a key is free again, its next usage is another fact with another id.",
        (
            Edit(
                "usage_from_command",
                "event_id=str(...)",
                'event_id=str(uuid.UUID(hashlib.md5(f"{command.organization} '
                '{command.idempotency_key}".encode()).hexdigest()))',
                imports="hashlib",
            ),
        ),
        money=True,
    ),
    Mutation(
        "expired overwrite not published",
        "A usage under a key that was free again is published like any other.",
        (Edit("new_fact", 'if record.get(...) == "REMOVE":', 'if record.get(...) != "INSERT":'),),
        money=True,
    ),
    Mutation(
        "a record touched by hand published again",
        "A usage is new only if its event id was not there before.",
        (Edit("new_fact", 'or fact.id == $mapping_or_empty(...).get("S")'),),
    ),
    Mutation(
        "what TTL removes taken for malformed",
        "The end of a record is no usage and no failure.",
        (
            Edit(
                "new_fact",
                """
                if record.get(...) == "REMOVE":
                    return None
                """,
            ),
        ),
    ),
    Mutation(
        "counters taken for usage records",
        "Only usage records become events.",
        (Edit("fact_of_image", "not isinstance(pk, str) or pk.startswith(...)", "True"),),
    ),
    Mutation(
        "malformed record reported instead of stored",
        "A record that can never be published holds nothing up: it is stored and done.",
        (Edit("finish_chunk", "and not $store_unpublishable(...)"),),
    ),
    Mutation(
        "malformed record dropped",
        "Nothing is lost: a record that can never be published is stored.",
        (Edit("finish_chunk", "isinstance(...) and not $store_unpublishable(...)", "False"),),
    ),
    Mutation(
        "records of another source taken for the stream's",
        "An event that is no batch of the stream is an error with a name, and nothing of it counts as done.",
        (Edit("records_in", "and not any(...)"),),
    ),
    Mutation(
        "an event of another source logged whole",
        "Of an event that is no batch of the stream, its keys are logged and no value.",
        (Edit("records_in", 'extra={"keys": keys}', 'extra={"keys": keys, "event": event}'),),
    ),
    Mutation(
        "what is malformed kept before anything is sent",
        "What can never be published holds nobody else up, however many of it there are.",
        (
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
    ),
    Mutation(
        "an entry the bus can never accept sent for ever",
        "A record that can never be published holds nothing up: it is stored and done.",
        (Edit("send_chunk", "never = code in $NEVER_ACCEPTED", "never = False"),),
    ),
    Mutation(
        "a call spoilt by one of them dropped whole",
        "A record that spoils the call for all takes none of its neighbours with it.",
        (Edit("send_chunk", "if len(chunk) > 1:", "if not chunk:"),),
        money=True,
    ),
    Mutation(
        "the rest of a split call dropped when one part fails",
        "A call that is split loses none of its parts.",
        (
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
        ),
        money=True,
    ),
    Mutation(
        "a record that could not be kept reported before one that was not sent",
        "What is reported is the first record that is not done.",
        (
            Edit(
                "finish_chunk",
                "(each for each in chunk if each in left)",
                "iter(sorted(left, key=lambda each: isinstance(each, $DueEvent)))",
            ),
        ),
    ),
    Mutation(
        "one that was not sent reported before a record that could not be kept",
        "What is reported is the first record that is not done.",
        (Edit("finish_chunk", "(each for each in chunk if each in left)", "iter(left)"),),
    ),
    Mutation(
        "calls begun after one has failed",
        "What comes after a failed call would be sent twice.",
        (
            Edit(
                "finish_chunks",
                """
                if not is_done:
                    failed.set()
                """,
            ),
        ),
    ),
    Mutation(
        "an unforeseen failure in a thread passed over",
        "What nobody foresaw fails the invocation, and the batch comes again.",
        (Edit("finish_chunks", "finishing.result", "None if finishing.exception() else finishing.result"),),
    ),
    Mutation(
        "what failed reported in another order",
        "Everything from the first record that is not done is sent again.",
        (Edit("send_chunk", "again.append(due)", "again.insert(0, due)"),),
    ),
    Mutation(
        "a failure store that failed taken for one that stored",
        "A record counts as done only when it is stored.",
        (
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
        ),
        money=True,
    ),
    Mutation(
        "a malformed record stored under a new name each time",
        "A record that is delivered twice is stored once.",
        (Edit("store_unpublishable", "{$UNPUBLISHABLE}/{name}.json", "{$UNPUBLISHABLE}/{os.urandom(32).hex()}.json"),),
    ),
    Mutation(
        "a record stored under its reason, too",
        "A record that is refused in two ways is stored once.",
        (Edit("store_unpublishable", "json.dumps(record, sort_keys", "json.dumps([reason, record], sort_keys"),),
    ),
    Mutation(
        "a call started too late to end",
        "A call that could outlast the invocation is not started.",
        (
            Edit(
                "send_chunk",
                """
                if remaining_s() < $RESERVE_S:
                    return chunk
                """,
            ),
        ),
    ),
    Mutation(
        "notices not published",
        "Every notice becomes an event.",
        (Edit("fact_of_image", "$limit_noticed(...)", "None"),),
        money=True,
    ),
    Mutation(
        "an approaching limit told as reached",
        "`billing.limit.reached` says that the limit is reached, and a threshold before it only that it approaches.",
        (Edit("limit_noticed", "if notice.percentage == $REACHED:", "if True:"),),
    ),
)
