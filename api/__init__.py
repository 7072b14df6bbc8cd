"""HTTP. Imports no torch, no transformers, no model."""
