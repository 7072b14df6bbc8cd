"""Which runner answers, on which host, and which model is unloaded for another."""
