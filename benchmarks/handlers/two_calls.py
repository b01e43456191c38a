"""Only the two calls that record a usage, with items like the record function's."""

from typing import Any

_RECORD = {
    "pk": {"S": "usage#demo-org#6c"},
    "sk": {"S": "abc-123"},
    "organizationId": {"S": "demo-org"},
    "feature": {"S": "api_calls"},
    "quantity": {"N": "1"},
    "billingPeriod": {"S": "2026-11"},
    "recordedAt": {"S": "2026-11-23T00:20:04.123Z"},
    "fingerprint": {"S": "1:30943d37c19ead4869676cc084026d1b744ce0e357af2672451548aef8c7d025"},
    "eventId": {"S": "1f0c9a52-7c1e-4b0e-9d0a-3a8f6b5f2c10"},
    "counter": {"M": {"pk": {"S": "counter#demo-org#2026-11"}, "sk": {"S": "api_calls#0"}, "day": {"N": "23"}}},
    "expiresAt": {"N": "1829953204"},
    "traceId": {"S": "AbC1dEfGoAMEJrg="},
}


def make(client: Any, table: str) -> dict[str, Any]:
    """Make both calls, and return an answer for an HTTP API."""
    client.transact_write_items(
        TransactItems=[
            {
                "Put": {
                    "TableName": table,
                    "Item": _RECORD,
                    "ConditionExpression": "attribute_not_exists(pk) OR expiresAt <= :now",
                    "ExpressionAttributeValues": {":now": {"N": "1795393204"}},
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                }
            },
            {
                "Update": {
                    "TableName": table,
                    "Key": {"pk": {"S": "counter#demo-org#2026-11"}, "sk": {"S": "api_calls#0"}},
                    "UpdateExpression": "ADD #total :quantity, #count :count, d23 :d23 SET listedIn = :list",
                    "ConditionExpression": "attribute_not_exists(#hard)",
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                    "ExpressionAttributeNames": {"#total": "total", "#count": "count", "#hard": "hard"},
                    "ExpressionAttributeValues": {
                        ":quantity": {"N": "1"},
                        ":count": {"N": "1"},
                        ":d23": {"N": "1"},
                        ":list": {"S": "open#2026-11#07"},
                    },
                }
            },
        ]
    )
    client.query(
        TableName=table,
        KeyConditionExpression="pk = :pk AND begins_with(sk, :feature)",
        ExpressionAttributeValues={":pk": {"S": "counter#demo-org#2026-11"}, ":feature": {"S": "api_calls#"}},
        ProjectionExpression="sk, #total, #pages, #hard",
        ExpressionAttributeNames={"#total": "total", "#pages": "pages", "#hard": "hard"},
        ConsistentRead=True,
    )
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "application/json"},
        "body": '{"recorded":true,"currentUsage":100,"limitReached":false}',
    }
