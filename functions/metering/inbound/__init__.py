"""Other services' events, and the changes that they make to organizations.

The subscriptions function imports this package. It imports `storage` and `model`.
"""
