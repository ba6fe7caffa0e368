"""A secret of this machine, the same in all workers and after a restart."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

MACHINE_ID = Path("/etc/machine-id")


def secret_of_machine(purpose: bytes, file: Path = MACHINE_ID) -> bytes:
    """16 octets for this purpose (at most 16 octets), made of the machine's ID; of chance, where it has none.

    machine-id(5) asks that the ID itself be kept from the network, and be hashed with a key for whatever is made of it.
    """
    try:
        id = bytes.fromhex(file.read_text().strip())
    except (OSError, ValueError):
        id = b""
    return blake2b(id if len(id) == 16 else os.urandom(16), person=purpose, digest_size=16).digest()
