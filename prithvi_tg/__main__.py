"""The command ``prithvi-tg``. Only commands that need Lightning import it, so help and errors appear at once."""

import os
import signal
import sys

from . import __version__
from .cli.errors import unwrapped, with_dashes, with_options
from .cli.messages import ShortWarnings, shown_messages
from .cli.parsers import option_names
from .cli.spelling import asks_for_help, unknown_command, with_boxes_joined, with_underscores
from .cli.table import COMMANDS, USAGE
from .errors import ConfigError, own_error


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0, 1 for an error in the data or the weights, 2 for one in the configuration, 128 + the number
        of a signal that interrupted the command.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    name, *words = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if name == "--version":
        print(f"prithvi-tg {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"prithvi-tg: error: {unknown_command(name, COMMANDS)}", file=sys.stderr)
        return 2
    command, words = COMMANDS[name].select(with_boxes_joined(with_underscores(words)))
    if asks_for_help(words):
        command.parser().print_help()
        return 0
    options = option_names(command.parser())
    try:
        with shown_messages(), ShortWarnings([], options):
            command.check(words)
            return command.run(words)
    except KeyboardInterrupt as stop:
        print(*getattr(stop, "__notes__", ["Interrupted."]), sep="\n", file=sys.stderr)
        return 128 + int(stop.args[0] if stop.args else signal.SIGINT)
    except Exception as error:
        ours = own_error(error)
        if (
            ours is None and type(error).__name__ == "MisconfigurationException"
        ):  # Lightning's, of its options
            ours = ConfigError(str(error).replace("\n", " "))
        if ours is None:
            if (theirs := unwrapped(error)) is error:
                raise
            raise theirs from None
        # The text of an error of a loader process contains its traceback; the last line is the message.
        name = f"{type(ours).__module__}.{type(ours).__name__}: "
        line = with_options(str(ours).strip().split("\n")[-1].removeprefix(name), options)
        print(f"prithvi-tg: error: {with_dashes(line, command.options_of(words))}", file=sys.stderr)
        return 2 if isinstance(ours, ConfigError) else 1


def console() -> int:
    """Run the command of this process; returns its exit code.

    OpenMP's threads sleep while they wait, unless the environment says otherwise. By default those of PyTorch's wheels
    spin, which takes a core from the threads that read and write, and from other programs on the machine.
    """
    if "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    return main()


if __name__ == "__main__":
    sys.exit(console())
