"""Values without I/O: usage, plans, organizations, periods, and the errors that a caller is answered with.

Every room may import it; it imports none.
"""
