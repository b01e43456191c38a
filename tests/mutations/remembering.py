"""Mutations of how long an environment goes by what it has read."""

from tests.mutations.mutation import Edit, Mutation

_SECONDS = "return max((present.wall - moment.wall).total_seconds(), present.monotonic_s - moment.monotonic_s)"


REMEMBERING = (
    Mutation(
        "memory by the monotonic clock alone",
        "What is remembered ends while its environment is frozen.",
        (Edit("model/clocks.py", _SECONDS, "return present.monotonic_s - moment.monotonic_s"),),
        money=True,
    ),
    Mutation(
        "memory by the wall clock alone",
        "What is remembered ends by the clock that says so first.",
        (Edit("model/clocks.py", _SECONDS, "return (present.wall - moment.wall).total_seconds()"),),
    ),
    Mutation(
        "a wall clock that was set back not heeded",
        "What is remembered ends when the wall clock is set back.",
        (Edit("model/clocks.py", "if present.set_backs != moment.set_backs:", "if False:"),),
    ),
    Mutation(
        "an organization's age counted from the answer",
        "An organization and its plan are remembered for a minute from when their reading began.",
        (
            Edit(
                "usage/organization_cache.py",
                "self._entries.put(name, entry, read_at)",
                "self._entries.put(name, entry, self.clocks.moment())",
            ),
        ),
    ),
    Mutation(
        "the known features' age counted from the answer",
        "The features of all plans are remembered for a minute from when their reading began.",
        (
            Edit(
                "usage/organization_cache.py",
                'self._features.put("", known_features(item), read_at)',
                'self._features.put("", known_features(item), self.clocks.moment())',
            ),
        ),
    ),
    Mutation(
        "a total's age counted from the answer",
        "A total of several pages is remembered from when its reading began.",
        (
            Edit("usage/counters.py", "        read_at = self.clocks.moment()\n", ""),
            Edit("usage/counters.py", "_Total(total, read_at, ", "_Total(total, self.clocks.moment(), "),
        ),
    ),
    Mutation(
        "a total of several pages remembered by the monotonic clock alone",
        "A total of several pages is read again after a freeze.",
        (
            Edit(
                "usage/counters.py",
                "self.clocks.seconds_since(total.read_at) < total.for_s",
                "self.clocks.monotonic() - total.read_at.monotonic_s < total.for_s",
            ),
        ),
        money=True,
    ),
)
