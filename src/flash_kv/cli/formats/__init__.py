"""The formats of `load` and `dump`: one module each, readers of rows and writers of records."""
