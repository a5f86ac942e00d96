"""The command line: ``medgemma findings``, ``soap``, ``ask``, ``locate``, ``prompts``, ``check``, ``export``, ``doctor``, ``serve``."""


def main() -> None:
    """The ``medgemma`` command."""
    from medgemma_app.cli import process

    process.prepare_signals()
    process.prepare_streams()
    from medgemma_app.cli.app import run

    process.leave(run())
