"""The five Lambda functions of the service, with all of our code that they run.

    record_api     HTTPS → http → usage → storage → the table
    query_api      HTTPS → http → usage → storage
    publisher      the table's stream → outbox → events on the bus
    limit_watcher  the table's stream → outbox → storage: notices, which the publisher publishes as events
    subscriptions  other services' events → inbound → storage

Imports point one way. The entries import the rooms `http`, `usage`, `outbox` and `inbound`, which do not import each
other. These rooms import `storage`, and `storage` imports `model`.
"""
