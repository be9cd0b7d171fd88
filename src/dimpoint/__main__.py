"""`python -m dimpoint`: the command line."""

from dimpoint.cli import main

main()
