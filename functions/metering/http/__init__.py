"""The HTTP API: from requests to answers and problems.

Only this room knows status codes and the spelling of members. The API's entries import it. It imports `model`, and
`storage.retry` for the retry budget.
"""
