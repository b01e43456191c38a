"""Benchmarks: the CPU cost of recording, the rate of publishing, the throughput of one busy counter, prices.

`make bench` runs them. No test asserts a time.
"""
