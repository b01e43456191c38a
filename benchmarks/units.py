"""The units in which DynamoDB, EventBridge and API Gateway bill.

Sources:
- The services' price pages
- DynamoDB developer guide, "DynamoDB item sizes and formats" and "DynamoDB read and write operations"
- EventBridge user guide, "Calculating PutEvents event entry size"
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

_KIB = 1024
_WRITE_UNIT_BYTES = 1 * _KIB
_READ_UNIT_BYTES = 4 * _KIB
_EVENT_CHUNK_BYTES = 64 * _KIB
_HTTP_REQUEST_BYTES = 512 * _KIB
# A list or a map takes these bytes, and one more for each element.
_CONTAINER_BYTES = 3
# The size of an entry's time, for any time.
_TIME_BYTES = 14


def item_bytes(item: Mapping[str, Any]) -> int:
    """The size of an item in DynamoDB's JSON (`{"S": …}`): its attributes' names and values."""
    return sum(_text_bytes(name) + _value_bytes(value) for name, value in item.items())


def write_units(size_bytes: int, *, transactional: bool = False) -> int:
    """The write request units of one item: one per KiB begun, at least one, and twice that in a transaction.

    `size_bytes` is the larger size of the item before and after the write, also if the write failed.
    """
    return _begun(size_bytes, _WRITE_UNIT_BYTES) * (2 if transactional else 1)


def read_units(size_bytes: int, *, consistent: bool) -> float:
    """The read request units of one GetItem, or of one Query whose items have this size together.

    One per 4 KiB begun, at least one, and half of that if the read is not consistent.
    """
    return _begun(size_bytes, _READ_UNIT_BYTES) / (1 if consistent else 2)


def entry_bytes(entry: Mapping[str, Any]) -> int:
    """The size of a PutEvents entry."""
    texts = (entry.get("Source", ""), entry.get("DetailType", ""), entry.get("Detail", ""), *entry.get("Resources", ()))
    return sum(_text_bytes(text) for text in texts) + (_TIME_BYTES if "Time" in entry else 0)


def billed_events(entries: Iterable[Mapping[str, Any]]) -> int:
    """The events that AWS bills for these entries. AWS bills each started 64 KiB of an entry as one event."""
    return sum(_begun(entry_bytes(entry), _EVENT_CHUNK_BYTES) for entry in entries)


def billed_http_requests(body_bytes: int) -> int:
    """The requests that an HTTP API bills for one request with this body: one per 512 KiB begun."""
    return _begun(body_bytes, _HTTP_REQUEST_BYTES)


def _begun(size_bytes: int, unit_bytes: int) -> int:
    return max(1, -(-size_bytes // unit_bytes))


def _text_bytes(text: str) -> int:
    return len(text.encode())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return _text_bytes(content)
        case "N":
            return _number_bytes(content)
        case "B":
            return _binary_bytes(content)
        case "BOOL" | "NULL":
            return 1
        case "SS" | "NS" | "BS":
            return sum(_value_bytes({kind[0]: member}) for member in content)
        case "L":
            return _CONTAINER_BYTES + sum(1 + _value_bytes(element) for element in content)
        case "M":
            return _CONTAINER_BYTES + len(content) + item_bytes(content)
    raise ValueError(f"DynamoDB has no type {kind}")


def _number_bytes(digits: str) -> int:
    """One byte for two significant digits, one more, and one for a minus sign. DynamoDB calls this approximate."""
    mantissa = digits.lower().partition("e")[0]
    significant = mantissa.lstrip("+-").replace(".", "").strip("0")
    return -(-len(significant) // 2) + 1 + (1 if mantissa.startswith("-") and significant else 0)


def _binary_bytes(content: bytes | str) -> int:
    """The size of raw bytes as botocore takes them, or of base64 as on the wire."""
    return len(base64.b64decode(content) if isinstance(content, str) else content)
