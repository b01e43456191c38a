"""What of an installed dependency no function of ours can reach, and is left out of the bundle.

Whole parts by name, never single modules that happen not to be loaded: a part that is left out is one whose purpose we
do not have, so that a reader can judge the list. Tests import and run what is left, with nothing beside it.
"""

import json
import shutil
from pathlib import Path

# The services that the functions call. botocore holds the descriptions of four hundred.
SERVICES = {"dynamodb", "events", "s3", "sqs"}

_UNUSED = (
    "bin",
    ".lock",
    # Half of Powertools' size is a documentation viewer for its own router. Of its utilities we use none, but its
    # package imports two of them itself.
    "aws_lambda_powertools/event_handler",
    "aws_lambda_powertools/metrics/provider/datadog",
    # An interface for pydantic 1, a type checker's plugin, and what a browser runs urllib3 with.
    "pydantic/v1",
    "pydantic/mypy.py",
    "urllib3/contrib/emscripten",
    # A copy of the time zones: ours is UTC, and a system's own come first.
    "dateutil/zoneinfo",
)
_USED_UTILITIES = {"__init__.py", "typing", "jmespath_utils"}

# Of an installation's own records: the licences, whose terms ask for it, and the name and version, by which scanners
# find what has a known weakness (Amazon Inspector reads this file).
_KEPT_RECORDS = ("METADATA", "LICENSE*", "NOTICE*", "licenses")


def trim(bundle: Path) -> None:
    """Remove from `bundle` what the functions cannot reach.

    Raises:
        FileNotFoundError: a part of the list is not there; a new version of its package moved it, so the list must
            be looked at again.
    """
    for part in _UNUSED:
        _remove(bundle / part)
    for utility in (bundle / "aws_lambda_powertools" / "utilities").iterdir():
        if utility.name not in _USED_UTILITIES:
            _remove(utility)
    for described in (bundle / "botocore" / "data").iterdir():
        if described.is_dir() and described.name not in SERVICES:
            _remove(described)
    for examples in bundle.glob("botocore/data/*/*/examples-1.json*"):
        _remove(examples)
    _cut_endpoints(bundle / "botocore" / "data" / "endpoints.json")
    for records in bundle.glob("*.dist-info"):
        kept = {path for pattern in _KEPT_RECORDS for path in records.glob(pattern)}
        for path in set(records.iterdir()) - kept:
            _remove(path)
        _cut_description(records / "METADATA")
    for typing_marker in bundle.rglob("py.typed"):
        _remove(typing_marker)


def _cut_endpoints(path: Path) -> None:
    """Keep every partition and region, and of the services only ours: botocore reads this file for each client."""
    endpoints = json.loads(path.read_text("utf-8"))
    for partition in endpoints["partitions"]:
        services = partition["services"].items()
        partition["services"] = {name: where for name, where in services if name in SERVICES}
    path.write_text(json.dumps(endpoints, separators=(",", ":")))


def _cut_description(metadata: Path) -> None:
    """Keep the fields, not the package's README below them."""
    fields, _, _ = metadata.read_text("utf-8").partition("\n\n")
    metadata.write_text(fields + "\n", "utf-8")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
