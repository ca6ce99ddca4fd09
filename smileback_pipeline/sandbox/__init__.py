"""A realistic SmileBack on loopback, for trying things out and for the tests. Production never imports it."""
