"""`python -m dohproxy`: the same as the `dohproxy` command."""

from dohproxy.cli.main import main

main()
