"""Holds what the gateway and the runners both use. It imports neither of them."""
