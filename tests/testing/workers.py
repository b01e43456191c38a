"""Assigns tests to parallel workers. Tests of one module, or with the same slow fixture, go to the same worker."""

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

# The tests that may use each slow fixture: the local stack, the engine for faults, and the templates.
SHARED = {
    "stack": (
        "tests/browser/",
        "tests/e2e/",
        "tests/fuzz/test_http.py",
        "tests/integration/test_races.py",
        "tests/runtime/",
    ),
    "on": ("tests/faults/",),
    "all_stacks": ("tests/template/",),
}


def group(test: str) -> str:
    """The group of a test: its shared fixture, or else its module."""
    return next((fixture for fixture, tests in SHARED.items() if test.startswith(tests)), test.partition("::")[0])


def order(test: str) -> int:
    """The position of a test's group. Shared fixtures come first; small modules at the end balance the workers."""
    return [*SHARED, group(test)].index(group(test))


class Together(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Distributes whole groups, unlike xdist's `loadgroup` with pytest 9.2 (pytest-dev/pytest-xdist, issue 1386)."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
