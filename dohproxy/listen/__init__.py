"""Where queries come in: UDP and TCP."""
