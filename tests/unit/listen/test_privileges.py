import os
import subprocess
import sys

import pytest

from dohproxy.listen.privileges import PrivilegeError, become

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
PROGRAM = """
import os
from dohproxy.listen.privileges import become
become("nobody")
print(os.getresuid(), os.getresgid(), os.getgroups())
try:
    os.seteuid(0)
except PermissionError:
    print("for good")
"""


def test_nobody_in_particular():
    before = os.getresuid()
    become("")
    assert os.getresuid() == before


def test_a_user_that_is_not_there():
    with pytest.raises(PrivilegeError, match=r'^listen.user "no-such-user": there is no such user'):
        become("no-such-user")


@AS_ROOT
def test_root_becomes_a_user_for_good():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "(65534, 65534, 65534) (65534, 65534, 65534) []\nfor good\n"


def test_only_root_can_become_another(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(PrivilegeError, match="only root can become another user"):
        become("nobody")
