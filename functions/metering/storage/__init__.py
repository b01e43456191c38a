"""The table: what its items look like, the transaction that writes them, and consistent reads.

The rooms `usage`, `outbox` and `inbound` may import it, and `http` its retry budget. It imports `model` alone.
"""
