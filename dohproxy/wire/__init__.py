"""DNS messages as bytes: names, records, EDNS, requests, replies, framing. No I/O."""
