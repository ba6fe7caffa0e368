"""The stages between a client's question and an upstream, one a file."""
