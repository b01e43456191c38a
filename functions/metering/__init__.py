"""The usage recorder: the only code of ours that Lambda runs.

    record_api → command → ledger → (DynamoDB stream) → publisher → events

Any of them may use the leaves: items (the shapes in the table), contract (the wire's models), errors.
"""
