"""A vision-language model that is served: engine, batcher, cache, sampling."""
