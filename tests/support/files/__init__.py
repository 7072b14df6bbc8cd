"""Files as people send them: documents of several pages, and pictures in rarer formats."""
