"""Chooses the runner that answers, on which host, and the model that is unloaded for another."""
