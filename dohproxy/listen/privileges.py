"""Becoming an ordinary user, once what needs root is done."""

from __future__ import annotations

import os
import pwd

from dohproxy.errors import DohproxyError


class PrivilegeError(DohproxyError):
    """The process could not become `listen.user`, or could become root again."""


def become(user: str) -> None:
    """Give up root for good and be `user`, with that user's group and no others; "" stays. Raises PrivilegeError."""
    if not user:
        return
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise PrivilegeError(f'listen.user "{user}": there is no such user') from None
    if os.geteuid() == account.pw_uid != 0:
        return
    if os.geteuid() != 0:
        raise PrivilegeError(f'listen.user "{user}": only root can become another user; start as root or leave the key out')
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    if account.pw_uid and _may_be_root():
        raise PrivilegeError(f'listen.user "{user}": root could be had back')


def _may_be_root() -> bool:
    try:
        os.setuid(0)
    except OSError:
        return False
    return True
