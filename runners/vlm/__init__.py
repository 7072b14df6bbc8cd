"""Serves a vision-language model to many requests at once.

- A **token** is a piece of text or of an image, the unit in which the model reads and writes.
- A **row** is one request in the engine: its prompt, its limits, and the tokens made so far.
- The **vision tower** turns the images of a prompt into features, which take the place of its image
  tokens.
- A **prefill** runs prompts through the model, several together or one in slices, and gives each
  row its first token.
- A **step** runs all running rows through the model together and gives each its next token.
- The **batch** is the rows that run. Rows join it after their prefill and leave it between steps.
- The **KV cache** holds, for each token of the running rows, what the model needs of it later: a
  column. It consists of **blocks** of 256 columns, and a row has a table of its blocks.

A request passes through `engine` (loads the model), `loaded_model` (turns the request into a row),
`runners.scheduling` (lets the row wait or run, and gives it blocks), and `batcher` (runs the batch
on the device). `interface` is what a family of models has to provide, `runners.decoder` the
language model that all families share.
"""
