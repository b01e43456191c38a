"""The words of the domain as values, without I/O: usage, plans, organizations, periods, and what a caller is answered.

Every room may import it; it imports none.
"""
