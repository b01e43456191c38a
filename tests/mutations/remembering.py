"""Mutations of how long an environment goes by what it has read."""

from tests.mutations.mutation import Edit, Mutation

_SECONDS = "return math.inf if wall_s < 0 else max(wall_s, self.monotonic() - moment.monotonic_s)"


def _read_before_asked(where: str, read: str) -> Edit:
    """The moment of a memory taken after its read."""
    before = f"        read_at = self.clocks.moment()\n        {read}\n"
    return Edit(where, before, f"        {read}\n        read_at = self.clocks.moment()\n")


REMEMBERING = (
    Mutation(
        "memory by the monotonic clock alone",
        "What is remembered ends while its environment is frozen.",
        (Edit("memory.py", _SECONDS, "return self.monotonic() - moment.monotonic_s"),),
        money=True,
    ),
    Mutation(
        "memory by the wall clock alone",
        "What is remembered ends by the clock that says so first.",
        (Edit("memory.py", _SECONDS, "return math.inf if wall_s < 0 else wall_s"),),
    ),
    Mutation(
        "a wall clock that was set back not heeded",
        "What is remembered ends when the wall clock is set back.",
        (Edit("memory.py", _SECONDS, "return max(wall_s, self.monotonic() - moment.monotonic_s)"),),
    ),
    Mutation(
        "an organization's age counted from the answer",
        "An organization is remembered for a minute from when its reading began.",
        (_read_before_asked("directory.py", "item = self._read(organization_key(name))"),),
    ),
    Mutation(
        "a plan's age counted from the answer",
        "A plan is remembered for a minute from when its reading began.",
        (_read_before_asked("directory.py", "item = self._read(plan_key(organization.plan))"),),
    ),
    Mutation(
        "the known features' age counted from the answer",
        "The features of all plans are remembered for a minute from when their reading began.",
        (
            Edit(
                "directory.py",
                "        read_at = self.clocks.moment()\n"
                '        return self._features.put("", known_features(self._read(FEATURES_KEY)), read_at)\n',
                "        known = known_features(self._read(FEATURES_KEY))\n"
                '        return self._features.put("", known, self.clocks.moment())\n',
            ),
        ),
    ),
    Mutation(
        "a total's age counted from the answer",
        "A total of several pages is remembered from when its reading began.",
        (
            Edit("counters.py", "        read_at = self.clocks.moment()\n", ""),
            Edit("counters.py", "_Total(total, read_at, ", "_Total(total, self.clocks.moment(), "),
        ),
    ),
    Mutation(
        "a total of several pages remembered by the monotonic clock alone",
        "A total of several pages is read again after a freeze.",
        (
            Edit(
                "counters.py",
                "self.clocks.seconds_since(total.read_at) < total.for_s",
                "self.clocks.monotonic() - total.read_at.monotonic_s < total.for_s",
            ),
        ),
        money=True,
    ),
)
