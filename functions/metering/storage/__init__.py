"""The table: the form of its items, the transaction that writes them, and consistent reads.

`usage`, `outbox` and `inbound` may import this package, and `http` its retry budget. It imports only `model`.
"""
