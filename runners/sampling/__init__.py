"""Chooses the next tokens of a batch from its logits, for all rows at once."""
