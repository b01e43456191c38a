"""The HTTP API: requests in, answers and problems out. The only room that knows status codes and members' spelling.

The entries of the API import it; it imports `model`, and of `storage` the retry budget.
"""
