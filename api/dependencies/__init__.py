"""FastAPI dependencies that a route declares: its admission and its checked form."""
