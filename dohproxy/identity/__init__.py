"""Who we are to others: certificates and keys, from files, from a workload's agent, or in an HSM."""
