"""`python -m penstock.control` is the command `penstock`."""

from .cli import main

if __name__ == "__main__":
    main()
