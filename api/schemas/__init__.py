"""What is answered: the guide's form, and OpenAI's."""
