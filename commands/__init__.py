"""The command `chatvlm-server`: fetches weights, and says what of this machine is to be mended."""
