"""What the benchmarks share: models, requests, other schemes, and services to compare with."""
