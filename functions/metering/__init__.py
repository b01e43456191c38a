"""The five Lambda functions of the service, with all of our code that they run.

    record_api     HTTPS → http → usage → storage → the table
    query_api      HTTPS → http → usage → storage
    publisher      the table's stream → outbox → events on the bus
    limit_watcher  the table's stream → outbox → storage: notices, which the publisher publishes as events
    subscriptions  other services' events → inbound → storage

Imports point one way. The entries and their environment import the rooms `http`, `usage`, `outbox` and `inbound`. These
do not import each other. They import `storage`, which imports `model`.
"""
