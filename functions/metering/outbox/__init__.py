"""What the table's stream leads to: events on the bus, and notices of limits that are reached.

The publisher and the limit watcher import it; it imports `storage` and `model`.
"""
