"""The command line `flash-kv` (extra `cli`): one small module per command over the public package."""
