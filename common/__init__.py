"""What the gateway and the runners both know. Imports neither."""
