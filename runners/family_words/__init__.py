"""What families of models are asked, and what their answers say. Imports no torch.

The families use it, and so does the engine that asks a server which has loaded such a model.
"""
