"""Trying to break a store, on this machine and with these options: crashes, failing calls, schedules.

`journal` says what a store must hold and judges what it does hold; `crashes`, `faults` and `schedules` try to make the
two differ; `campaign` runs many of them. Used by `flash-kv torture` and by the tests alike. See docs/durability.md.
"""
