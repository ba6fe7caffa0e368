"""The validator as a library: anchors, signatures, denial of existence, the chain of trust, its budget. No I/O."""
