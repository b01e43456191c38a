"""The usage recorder: the only code of ours that Lambda runs.

    record_api     HTTPS → http → usage → storage → the table
    query_api      HTTPS → http → usage → storage
    publisher      the table's stream → outbox → events on the bus
    limit_watcher  the table's stream → outbox → storage: notices, which the publisher makes events of
    subscriptions  others' events → inbound → storage

Imports point one way: entries, their environment, the rooms http, usage, outbox and inbound, which do not know each
other, then storage, then model.
"""
