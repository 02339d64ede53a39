"""The OpenAPI 3.1 document of the HTTP interface: one module per group of resources, put together in `document`."""
