"""One file per group of routes. No route imports another."""
