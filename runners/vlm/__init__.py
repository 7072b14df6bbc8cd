"""Serves a vision-language model: engine, scheduler, batcher, KV cache, sampling, text stream."""
