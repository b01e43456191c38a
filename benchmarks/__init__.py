"""What recording costs beside the calls it makes, how fast events are published, and what one hot counter takes.

Run by `make bench`; no test asserts a time.
"""
