"""Which code runs where there is compiled code and its twin in Python.

The environment variable DOHPROXY_CORE chooses: `compiled` (an error if it is not there), `pure`, or `off`, where nothing is
compiled and no finished reply is replayed either. Unset, it is compiled if that is there. The command line refuses all else.
"""

from __future__ import annotations

from importlib import import_module
from os import environ
from types import ModuleType

WISH = environ.get("DOHPROXY_CORE", "")
WISHES = ("compiled", "pure", "off")


def trouble() -> str:
    """Why what is wished for cannot be had; "" if it can."""
    if WISH and WISH not in WISHES:
        return f"DOHPROXY_CORE={WISH}: neither {', '.join(WISHES[:-1])} nor {WISHES[-1]}"
    if WISH == "compiled":
        try:
            for room in ("wire", "dnssec", "cache", "core"):
                compiled_part(f"dohproxy.{room}")
        except ImportError as error:
            return f"DOHPROXY_CORE=compiled: {error}"
    return ""


def compiled_part(package: str) -> ModuleType | None:
    """The compiled module of this package, if it is wanted and there; raises ImportError if it is demanded and not there."""
    if WISH not in ("", "compiled"):
        return None
    try:
        return import_module(f"{package}._compiled")
    except ImportError:
        if WISH:
            raise
        return None
