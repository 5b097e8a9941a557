"""`python -m acereason`, and so `torchrun -m acereason`."""

from acereason.cli import main

main()
