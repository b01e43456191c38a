"""Values without I/O: usage, plans, organizations, periods, and the errors that the API returns.

Every other package may import this one. It imports none of them.
"""
