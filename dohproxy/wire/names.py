"""Domain names as uncompressed wire form (RFC 1035 3.1): made from text, told as text, compared, cut, ordered.

A length octet is at most 63 and so never an upper-case letter: `bytes.lower()` is safe on a whole name.
"""

from __future__ import annotations

from collections.abc import Iterator

import idna

from dohproxy.errors import BadName
from dohproxy.model import Name

ROOT: Name = b"\0"
MAX_LENGTH, MAX_LABEL = 255, 63

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*/")


def from_text(text: str) -> Name:
    """The name that a person wrote, in lower case; a final dot may be missing, U-labels become A-labels (RFC 5891).

    Raises BadName, which says what is wrong.
    """
    if not text.isascii():
        try:
            text = idna.encode(text, uts46=True).decode()
        except idna.IDNAError as error:
            raise BadName(f"{text!r} is no internationalized domain name: {error}") from None
    if text == ".":
        return ROOT
    wire = b"".join(bytes([len(label)]) + label for label in _labels_of_text(text)) + ROOT
    if len(wire) > MAX_LENGTH:
        raise BadName(f"{text!r} is longer than {MAX_LENGTH} octets")
    return wire.lower()


def _labels_of_text(text: str) -> list[bytes]:
    labels, current, at = [], bytearray(), 0
    while at < len(text):
        char = text[at]
        if char == ".":
            labels.append(bytes(current))
            current.clear()
        elif char == "\\":
            octet, at = _escape(text, at)
            current.append(octet)
        else:
            current += char.encode()
        at += 1
    if current or not labels:
        labels.append(bytes(current))
    for label in labels:
        if not 0 < len(label) <= MAX_LABEL:
            raise BadName(f"{text!r} has an empty label" if not label else f"{text!r} has a label over {MAX_LABEL} octets")
    return labels


def _escape(text: str, at: int) -> tuple[int, int]:
    """The octet that the escape at `at` stands for (RFC 1035 5.1), and the place of its last character."""
    digits = text[at + 1 : at + 4]
    if len(digits) == 3 and digits.isdigit() and int(digits) < 256:
        return int(digits), at + 3
    if digits and not digits[0].isdigit():
        return ord(digits[0]), at + 1
    raise BadName(f"{text!r} has a bad escape")


def to_text(name: Name) -> str:
    """Presentation form with the final dot (RFC 1035 5.1)."""
    if name == ROOT:
        return "."
    return "".join(_label_text(label) + "." for label in labels(name))


def _label_text(label: bytes) -> str:
    if _PLAIN.issuperset(label):
        return label.decode()
    return "".join(
        chr(c) if c in _PLAIN else f"\\{chr(c)}" if 0x21 <= c <= 0x7E and not 0x30 <= c <= 0x39 else f"\\{c:03}" for c in label
    )


def labels(name: Name) -> list[bytes]:
    """The labels from left to right, without the root's."""
    found, at = [], 0
    while length := name[at]:
        at += 1
        found.append(name[at : at + length])
        at += length
    return found


def from_labels(parts: list[bytes]) -> Name:
    """The name of these labels; raises BadName if it is too long."""
    name = b"".join(bytes([len(label)]) + label for label in parts) + ROOT
    if len(name) > MAX_LENGTH:
        raise BadName(f"a name of {len(name)} octets")
    return name


def label_count(name: Name) -> int:
    """How many labels the name has; the root has none."""
    count, at = 0, 0
    while length := name[at]:
        count += 1
        at += length + 1
    return count


def parent(name: Name) -> Name:
    """The name without its leftmost label; the root is its own parent."""
    return name[name[0] + 1 :] or ROOT


def suffixes(name: Name) -> Iterator[Name]:
    """The name itself, its parent, … and the root."""
    at = 0
    while name[at]:
        yield name[at:]
        at += name[at] + 1
    yield ROOT


def is_subdomain(name: Name, ancestor: Name) -> bool:
    """Whether `name` is `ancestor` or lies below it."""
    cut = len(name) - len(ancestor)
    if cut < 0 or not name.endswith(ancestor):
        return False
    at = 0
    while at < cut:
        at += name[at] + 1
    return at == cut


def is_below(name: Name, ancestor: Name) -> bool:
    """Whether `name` lies below `ancestor` and is not it."""
    return len(name) > len(ancestor) and is_subdomain(name, ancestor)


def last_labels(name: Name, count: int) -> Name:
    """The rightmost `count` labels; the whole name if it has no more."""
    surplus, at = label_count(name) - count, 0
    for _ in range(surplus):
        at += name[at] + 1
    return name[at:]


def is_wildcard(name: Name) -> bool:
    """Whether the leftmost label is an asterisk (RFC 4592 2.1.1)."""
    return name.startswith(b"\1*")


def wildcard_of(closest_encloser: Name) -> Name:
    """The source of synthesis at this closest encloser (RFC 4592 3.3.1); raises BadName if too long."""
    if len(closest_encloser) + 2 > MAX_LENGTH:
        raise BadName("no room for a wildcard label")
    return b"\1*" + closest_encloser


def order(name: Name) -> tuple[bytes, ...]:
    """A key that sorts names canonically (RFC 4034 6.1): by labels from the right, each as unsigned octets."""
    return tuple(reversed(labels(name)))
