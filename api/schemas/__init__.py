"""The fields of the JSON that is sent and answered: the guide's, and OpenAI's."""
