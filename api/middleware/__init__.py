"""ASGI middleware around the whole server: what holds for every path, BentoML's own included."""
