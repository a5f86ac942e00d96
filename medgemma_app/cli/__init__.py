"""The command line: ``medgemma findings``, ``soap``, ``check``, ``serve``."""


def main() -> None:
    """The ``medgemma`` command."""
    from medgemma_app.cli.app import main as run

    run()
