"""What this repository asks about FlashKV beside `flash-kv bench`, whose machinery, `flash_kv.bench`, it stands on.

The page of docs/benchmarks.md with its plots, the goals, the guard of instructions, durable writes, the kinds of index,
many keys at once, views. See `benchmarks/README.md`.
"""
