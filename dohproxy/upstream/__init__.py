"""Resolvers that questions are forwarded to: connections, pools, one transport a file."""
