"""What this process logs, and the id of the request that a line is about."""
