"""The table: the form of its items, the transaction that writes them, and consistent reads.

`usage`, `outbox` and `inbound` can import this package. `http` can import its retry budget. This package imports only
`model`.
"""
