"""What is made of the tokens of one row: text in whole characters, and the end of a loop."""
