"""How long to look: `make fuzz FUZZ_CASES=…` for longer than `make verify` does."""

import os

from hypothesis import HealthCheck, settings

CASES = int(os.environ.get("FUZZ_CASES") or 300)

FUZZ = settings(
    max_examples=CASES,
    # What was found becomes a named test; a file of old findings would only be here and not there.
    database=None,
    # Another look each time somebody fuzzes; the same each time somebody tests.
    derandomize="FUZZ_CASES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
