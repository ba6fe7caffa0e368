"""The SPIFFE Workload API: what the agent of this machine says that we are, and whom to trust."""
