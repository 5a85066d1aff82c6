"""`python -m carepost`."""

from carepost.cli import main

main()
