"""Whether a resolver may be the one that another designated, by its certificate (RFC 9462 4.2)."""

from __future__ import annotations

from ipaddress import ip_address

from cryptography import x509


def is_designated(certificate_der: bytes, by: str) -> bool:
    """Whether a certificate, which was verified, has the IP address of the resolver that told of it as an iPAddress SAN."""
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return False
    return ip_address(by) in names.get_values_for_type(x509.IPAddress)
