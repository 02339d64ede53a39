"""The server: a store over HTTP. `flash-kv serve` and `running` start it; docs/http.md has the interface."""
