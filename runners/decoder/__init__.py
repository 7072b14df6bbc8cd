"""The language model of every family: computes packed tokens of rows over a KV cache in blocks."""
