"""The number of fuzz cases: `make fuzz FUZZ_CASES=…` tries more than `make verify`."""

import os

from hypothesis import HealthCheck, settings

CASES = int(os.environ.get("FUZZ_CASES") or 300)

FUZZ = settings(
    max_examples=CASES,
    # Each finding becomes a named test. A database of old findings would exist on one machine only.
    database=None,
    # `make fuzz` draws other cases each time. `make verify` always draws the same ones.
    derandomize="FUZZ_CASES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
