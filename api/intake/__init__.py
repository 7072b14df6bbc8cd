"""Turns untrusted bytes into a checked form: uploads, JSON bodies, fetched files, parameters."""
