"""Mutations of how calls to DynamoDB are repeated until the deadline."""

from tests.mutations.mutation import Edit, Mutation

RETRIES = (
    Mutation(
        "a busy table tried once",
        "A busy table is tried again until the deadline.",
        Edit(
            "until_answered",
            """
            except $StoreBusy:
                $back_off(attempt)
            """,
            """
            except $StoreBusy as busy:
                raise $Unavailable(retry_after_s=1) from busy
            """,
        ),
    ),
    Mutation(
        "a wait beyond the deadline",
        "A request ends by its deadline: no wait ends after it.",
        Edit(
            "back_off",
            """
            if self.monotonic() + wait > self.deadline_s:
                raise $Unavailable(...)
            """,
        ),
    ),
    Mutation(
        "a call after the deadline",
        "No call starts after the deadline.",
        Edit(
            "check_deadline",
            """
            if self.monotonic() > self.deadline_s:
                raise $Unavailable(...)
            """,
            "return",
        ),
    ),
    Mutation(
        "waits without jitter",
        "Requests that conflicted wait for different times, so that they do not conflict again.",
        Edit("random_wait_s", "random.uniform(...)", "min($LONGEST_WAIT_S, $FIRST_WAIT_S * 2 ** min(attempt, 16))"),
    ),
    Mutation(
        "a server error not tried again",
        "A call that fails on DynamoDB's side is tried again until the deadline.",
        Edit("busy_when_unanswered", "or status >= 500"),
    ),
    Mutation(
        "a lost response not tried again",
        "A call without a response is tried again: it is possibly committed.",
        Edit("busy_when_unanswered", "(ConnectionError, HTTPClientError)", "ConnectionError"),
    ),
)
