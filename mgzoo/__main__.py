"""``python -m mgzoo`` is the same as ``mgzoo``."""

from mgzoo.cli import main

main()
