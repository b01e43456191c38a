"""Usage, recorded and asked for: the meaning of the API's commands and queries, without HTTP.

The entries of the API import it; it imports `storage` and `model`.
"""
