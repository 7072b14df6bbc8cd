"""Turns what decoders make of unusual pictures into pixels as people see them."""
