"""``python -m unstale.cli`` is ``unstale``."""

from unstale.cli import main

if __name__ == "__main__":
    main()
