"""Runs each model in a BentoML service of its own. Knows no HTTP."""
