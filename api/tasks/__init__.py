"""What is done with a checked form: files are read, a question or a conversation is prepared."""
