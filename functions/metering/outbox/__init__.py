"""From the table's stream to events on the bus, and to notices of reached limits.

The publisher and the limit watcher import this package. It imports `storage` and `model`.
"""
