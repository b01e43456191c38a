"""Which tests stay with one of the parallel workers: those that share something slow to make, and those of a module."""

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

# By fixture, the tests that may use it. The local stack, the faults' engine, the templates.
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
    """The shared fixture of the tests that stay together, or their module."""
    return next((fixture for fixture, tests in SHARED.items() if test.startswith(tests)), test.partition("::")[0])


def order(test: str) -> int:
    """The shared first: small modules at the end let no worker wait long for the other."""
    return [*SHARED, group(test)].index(group(test))


class Together(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Hands out groups. xdist's own `loadgroup` does not with pytest 9.2 (pytest-dev/pytest-xdist, issue 1386)."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
