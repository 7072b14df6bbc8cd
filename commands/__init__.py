"""The command `chatvlm-server`: fetches weights, says what to mend, writes manifests."""
