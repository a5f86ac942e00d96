"""The command line: ``medgemma findings``, ``soap``, ``ask``, ``locate``, ``prompts``, ``check``, ``export``, ``doctor``, ``serve``."""


def main() -> None:
    """The ``medgemma`` command."""
    from medgemma_app.cli.signals import prepare_signals

    prepare_signals()
    from medgemma_app.cli.streams import leave, prepare_streams

    prepare_streams()
    from medgemma_app.cli.app import run

    leave(run())
