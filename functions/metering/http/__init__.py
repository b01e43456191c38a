"""The HTTP API: requests in, answers and problems out.

Only this room knows status codes and the spelling of members. The API's entries import it. It imports `model`, and
`storage.retry` for the retry budget.
"""
