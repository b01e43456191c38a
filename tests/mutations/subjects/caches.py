"""Mutations of how long an environment keeps what it has read."""

from tests.mutations.mutation import Edit, Mutation

CACHES = (
    Mutation(
        "an organization remembered for ever",
        "An organization made inactive is refused within a minute.",
        (Edit("cache_has", "and $seconds_since(...) < $CACHED_S"),),
        money=True,
    ),
    Mutation(
        "a missing organization remembered",
        "An organization works as soon as it exists.",
        (
            Edit(
                "cached_organizations",
                "_entries: $Cache[$OrganizationEntry] = field",
                "_entries: $Cache[$OrganizationEntry | None] = field",
            ),
            Edit("read_organization", "None if entry is None else"),
        ),
    ),
    Mutation(
        "the organization's state read without consistency",
        "A change of an organization's state is known within a minute, not at some time.",
        (Edit("read_organization_and_plan", ", ConsistentRead=True"),),
    ),
    Mutation(
        "a plan remembered for more than a minute",
        "A limit that was changed is known within 60 seconds.",
        (Edit("CACHED_S", "$CACHED_S = 60.0", "$CACHED_S = 61.0"),),
    ),
    Mutation(
        "a plan read for every request",
        "A limit costs at most one read a minute.",
        (Edit("find_organization", "$cache_get(...) if $cache_has(...) else"),),
    ),
    Mutation(
        "memory by the monotonic clock alone",
        "What is remembered ends while its environment is frozen.",
        (Edit("seconds_since", "max(...)", "present.monotonic_s - moment.monotonic_s"),),
        money=True,
    ),
    Mutation(
        "memory by the wall clock alone",
        "What is remembered ends by the clock that says so first.",
        (Edit("seconds_since", "max(...)", "(present.wall - moment.wall).total_seconds()"),),
    ),
    Mutation(
        "a wall clock that was set back not heeded",
        "What is remembered ends when the wall clock is set back.",
        (Edit("seconds_since", "if present.set_backs != moment.set_backs:", "if False:"),),
    ),
    Mutation(
        "an organization's age counted from the answer",
        "An organization and its plan are remembered for a minute from when their reading began.",
        (Edit("read_organization", "(name, entry, read_at)", "(name, entry, self.clocks.$clock_moment())"),),
    ),
    Mutation(
        "the known features' age counted from the answer",
        "The features of all plans are remembered for a minute from when their reading began.",
        (Edit("read_known_features", "(item), read_at", "(item), self.clocks.$clock_moment()"),),
    ),
    Mutation(
        "a total's age counted from the answer",
        "A total of several pages is remembered from when its reading began.",
        (
            Edit("read_total", "read_at = $clock_moment()"),
            Edit("read_total", "$CachedTotal(total, read_at,", "$CachedTotal(total, self.clocks.$clock_moment(),"),
        ),
    ),
    Mutation(
        "a total of several pages remembered by the monotonic clock alone",
        "A total of several pages is read again after a freeze.",
        (
            Edit(
                "cached_total", "self.clocks.$seconds_since(...)", "self.clocks.monotonic() - total.read_at.monotonic_s"
            ),
        ),
        money=True,
    ),
)
