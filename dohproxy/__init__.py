"""dohproxy: plain DNS in; policy-checked, DNSSEC-validated, encrypted DNS out."""

__version__ = "0.1.0"
