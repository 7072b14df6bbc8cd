"""Commands that print the figures of docs/figures.md."""

from runners.checkpoints.torch_environment import set_torch_defaults

set_torch_defaults()  # before any of them imports torch, as a runner does
