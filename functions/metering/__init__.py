"""The usage recorder: the only code of ours that Lambda runs.

    record_api → command → ledger → (DynamoDB stream) → publisher → events
    query_api → queries → ledger

Any of them may use the leaves: items (the shapes in the table), contract (the wire's models), errors.
"""
