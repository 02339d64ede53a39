"""Measuring this store beside the others a Python programmer would take: what `flash-kv bench` runs.

Stores, workloads, method and results; nothing of the engine imports it. How it measures: docs/benchmarks.md and
`benchmarks/README.md` of the repository, whose own reports and guards stand on this package.
"""
