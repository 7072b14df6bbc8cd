"""Turns what answers are held to, such as a JSON schema, into grammars; says what is wrong."""
