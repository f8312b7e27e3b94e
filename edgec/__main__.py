"""python -m edgec"""

from .cli import main

main()
