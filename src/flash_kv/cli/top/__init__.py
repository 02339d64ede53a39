"""`flash-kv top`: where its figures come from (feed.py), what they say (figures.py), how it looks (screen.py)."""
