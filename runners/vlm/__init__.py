"""Serves a vision-language model to many requests at once.

- A **token** is a piece of text or of an image, the unit in which the model reads and writes.
- A **row** is one request in the engine: its prompt, its limits, and the tokens made so far.
- A **prefill** runs the whole prompt of one row through the model and gives its first token.
- A **step** runs all running rows through the model together and gives each its next token.
- The **batch** is the rows that run. Rows join it after their prefill and leave it between steps.
- The **KV cache** holds, for each token of the running rows, what the model needs of it later.

A request passes through `engine` (loads the model), `loaded_model` (turns the request into a row),
`scheduler` (lets the row wait or run), and `batcher` (runs the batch on the device, with `kv_cache`
and `sampling`). `interface` is what a family of models has to provide.
"""
