"""Which runner answers, on which host, and which model is evicted for it."""
