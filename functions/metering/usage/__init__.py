"""The API's commands and queries on usage, independent of HTTP.

The API's entries import this room. It imports `storage` and `model`.
"""
