"""Benchmarks of FlashKV beside the stores a Python programmer would take instead.

`python -m benchmarks.compare` is the one command behind every figure the project quotes;
`python -m benchmarks.durable` measures writes that survive a power cut. See `benchmarks/README.md`.
"""
