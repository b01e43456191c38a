"""Trim the bundle: remove the parts of its dependencies that no function can reach.

The list names whole parts whose purpose the functions do not have, so that a reader can judge it. It never names single
modules that are only unused by chance. Tests import and run the trimmed bundle on its own.
"""

import json
import shutil
from pathlib import Path

# The services that the functions call. botocore describes four hundred.
SERVICES = {"dynamodb", "events", "s3", "sqs"}

_UNUSED = (
    "bin",
    ".lock",
    # Half of Powertools' size is a documentation viewer for its own router. We use none of its utilities, but its
    # package imports two of them itself.
    "aws_lambda_powertools/event_handler",
    "aws_lambda_powertools/metrics/provider/datadog",
    # The pydantic 1 interface, a type checker's plugin, and urllib3's support for browsers.
    "pydantic/v1",
    "pydantic/mypy.py",
    "urllib3/contrib/emscripten",
    # A copy of the time zones. The functions use UTC only, and dateutil prefers the system's zones.
    "dateutil/zoneinfo",
)
_USED_UTILITIES = {"__init__.py", "typing", "jmespath_utils"}

# Installation records that stay: the licences, as their terms require, and the name and version. Scanners such as
# Amazon Inspector read those to find known vulnerabilities.
_KEPT_RECORDS = ("METADATA", "LICENSE*", "NOTICE*", "licenses")


def trim(bundle: Path) -> None:
    """Remove from `bundle` what the functions cannot reach.

    Raises:
        FileNotFoundError: a part in the list is missing, because a new version of its package moved it. Review the
            list.
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
    """Keep all partitions and regions, but only our services. botocore reads this file for each client."""
    endpoints = json.loads(path.read_text("utf-8"))
    for partition in endpoints["partitions"]:
        services = partition["services"].items()
        partition["services"] = {name: where for name, where in services if name in SERVICES}
    path.write_text(json.dumps(endpoints, separators=(",", ":")))


def _cut_description(metadata: Path) -> None:
    """Keep the fields, and remove the package's README below them."""
    fields, _, _ = metadata.read_text("utf-8").partition("\n\n")
    metadata.write_text(fields + "\n", "utf-8")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
