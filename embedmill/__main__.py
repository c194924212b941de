"""`python -m embedmill` is the `embedmill` command."""

from embedmill.cli import main

if __name__ == "__main__":
    main()
