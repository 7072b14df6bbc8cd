"""What the tests of the embedded reader share."""
