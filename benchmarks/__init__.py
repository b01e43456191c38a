"""What recording costs beside the calls it makes. Run by `make bench`; no test asserts a time."""
