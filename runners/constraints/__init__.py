"""Holds the tokens of rows to grammars, by a mask over the vocabulary for each step."""
