"""Trying to break a store, on this machine and with these options: crashes, failing calls, schedules, damage.

`journal` says what a store must hold and judges what it does hold; `crashes`, `faults` and `schedules` try to make the
two differ. `damages` damages the files of small stores, and `examination` says what those may answer. `campaign` runs
many of each. Used by `flash-kv torture` and by the tests alike. See docs/durability.md.
"""
