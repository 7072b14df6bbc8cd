"""Does jobs in worker processes that each load something once: native code may crash or hang."""
