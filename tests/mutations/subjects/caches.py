"""Mutations of how long an execution environment caches its reads."""

from tests.mutations.mutation import Edit, Mutation

CACHES = (
    Mutation(
        "an organization cached without expiry",
        "A minute after an organization becomes inactive, it records nothing new.",
        Edit("cache_has", "and $seconds_since(...) < $CACHED_S"),
        money=True,
    ),
    Mutation(
        "a missing organization cached",
        "A new organization is found as soon as it exists.",
        Edit(
            "cached_organizations",
            "_entries: $Cache[$OrganizationEntry] = field",
            "_entries: $Cache[$OrganizationEntry | None] = field",
        ),
        Edit("read_organization", "None if entry is None else"),
    ),
    Mutation(
        "the organization's state read without consistency",
        "A change of an organization's state takes effect within a minute.",
        Edit("read_item", ", ConsistentRead=True"),
    ),
    Mutation(
        "a plan cached for more than a minute",
        "A changed limit takes effect within 60 seconds.",
        Edit("CACHED_S", "$CACHED_S = 60.0", "$CACHED_S = 61.0"),
    ),
    Mutation(
        "a plan read for every request",
        "A limit costs at most one read a minute.",
        Edit("find_organization", "$cache_get(...) if $cache_has(...) else"),
    ),
    Mutation(
        "a cache by the monotonic clock alone",
        "A cached value also expires while its execution environment is frozen.",
        Edit("seconds_since", "max(...)", "present.monotonic_s - moment.monotonic_s"),
        money=True,
    ),
    Mutation(
        "a cache by the wall clock alone",
        "A cached value expires by the clock that runs faster.",
        Edit("seconds_since", "max(...)", "(present.wall - moment.wall).total_seconds()"),
    ),
    Mutation(
        "a wall clock that was set back ignored",
        "A cached value expires when the wall clock is set back.",
        Edit("seconds_since", "if present.set_backs != moment.set_backs:", "if False:"),
    ),
    Mutation(
        "an organization's age counted from the response",
        "An organization and its plan are cached for a minute from the start of their read.",
        Edit("read_organization", "(name, entry, read_at)", "(name, entry, self.clocks.$clock_moment())"),
    ),
    Mutation(
        "the known features' age counted from the response",
        "The features of all plans are cached for a minute from the start of their read.",
        Edit("read_known_features", "(item), read_at", "(item), self.clocks.$clock_moment()"),
    ),
    Mutation(
        "a total's age counted from the response",
        "A total of several pages is cached from the start of its read.",
        Edit("read_total", "read_at = $clock_moment()"),
        Edit("read_total", "$CachedTotal(total, read_at,", "$CachedTotal(total, self.clocks.$clock_moment(),"),
    ),
    Mutation(
        "a total cached by the monotonic clock alone",
        "A total of several pages is read again after a freeze.",
        Edit("cached_total", "self.clocks.$seconds_since(...)", "self.clocks.monotonic() - total.read_at.monotonic_s"),
        money=True,
    ),
)
