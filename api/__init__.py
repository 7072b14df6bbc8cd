"""The gateway: it speaks HTTP and asks the runners. It imports no torch and no transformers."""
