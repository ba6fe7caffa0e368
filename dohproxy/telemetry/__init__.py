"""What operators are told: logs, the query log, counters."""
