"""All of our code that Lambda runs: the five functions of the service.

    record_api     HTTPS → http → usage → storage → the table
    query_api      HTTPS → http → usage → storage
    publisher      the table's stream → outbox → events on the bus
    limit_watcher  the table's stream → outbox → storage: notices, which the publisher makes events of
    subscriptions  others' events → inbound → storage

Imports point one way: from the entries and their environment to the rooms http, usage, outbox and inbound, which do not
import each other, then to storage, then to model.
"""
