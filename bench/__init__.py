"""`make bench`: what a call costs the proxy, on real processes over loopback, the books checked after each run.

`__main__` states the order. Every number is CPU time or a ratio within one run; nothing here is a timed test.
"""
