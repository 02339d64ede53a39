"""The operations of a client, as generators of calls (calls.py)."""
