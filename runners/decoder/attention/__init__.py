"""Ways to attend over a KV cache in blocks: one for CPUs, one for GPUs, one for any device."""
