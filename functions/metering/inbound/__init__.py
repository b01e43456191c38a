"""Others' events, and how they change organizations.

The subscriptions function imports it; it imports `storage` and `model`.
"""
