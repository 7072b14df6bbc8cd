"""One BentoML service per model. Knows no HTTP."""
