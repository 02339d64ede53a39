"""The HTTP interface as a thin ASGI application: a table of routes and one module per resource."""
