"""From the table's stream to events on the bus, and to notices of limits that are reached.

The publisher and the limit watcher import it; it imports `storage` and `model`.
"""
