"""Asks a server of OpenAI's protocol, such as vLLM, that holds a model. Imports no torch.

The server is called the **upstream**. A request passes through `engine` (counts it, holds it to its
deadline), `prepared` (turns it into the protocol's messages, with the words and the images of its
family), `server` (sends it, and reads what comes), and `growing_answer` (makes the answer of that).
"""
