"""How errors are answered: the status and the body of each, and where they are caught."""
