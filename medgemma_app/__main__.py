"""``python -m medgemma_app`` is ``medgemma``."""

from medgemma_app.cli import main

if __name__ == "__main__":
    main()
