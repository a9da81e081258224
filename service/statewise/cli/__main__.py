"""`python -m statewise.cli`."""

from statewise.cli import main

main()
