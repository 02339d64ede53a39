"""The client: a store behind `flash-kv serve` as the same mapping that an embedded store is (docs/client.md).

What is asked and what an answer means stands in `steps`, without any I/O, once for both kinds of client;
`transport` and `async_transport` speak HTTP (httpx, extra `client`, imported by the first connect).
"""
