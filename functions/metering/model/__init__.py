"""Values without I/O: usage, plans, organizations, periods, and the errors that the API returns.

Every other package can import this package. It imports no other package.
"""
