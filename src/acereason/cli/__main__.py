"""`python -m acereason.cli`."""

from acereason.cli import main

main()
