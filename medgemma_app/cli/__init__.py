"""The command line: ``medgemma findings``, ``soap``, ``check``, ``export``, ``serve``."""


def main() -> None:
    """The ``medgemma`` command."""
    from medgemma_app.cli.streams import leave, prepare_signals, prepare_streams

    prepare_signals()
    prepare_streams()
    from medgemma_app.cli.app import run

    leave(run())
