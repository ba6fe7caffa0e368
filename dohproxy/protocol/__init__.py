"""Connections without I/O: DNS over a stream and over HTTP/2."""
