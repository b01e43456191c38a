"""Usage, recorded and asked for: what each command and query of the API means, whoever sends it over whatever wire.

The entries of the API import it; it imports `storage` and `model`.
"""
