"""What tests send: request bodies, and requests for chat completions."""
