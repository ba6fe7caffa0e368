"""Bounded stores of answers, proofs, keys and finished replies. No I/O."""
