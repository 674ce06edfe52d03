"""`python -m secureagg`."""

from secureagg.cli import main

if __name__ == "__main__":
    main()
