"""Options that a command does not have."""

from collections.abc import Collection, Sequence

from .options.configured import TRAINER_KEYS
from .parsers import fail
from .spelling import names_in, unknown_option

#: Options that users expect -> the key that they mean.
_OPTIONS = {
    **{f"--{key}": f"--trainer.{key}" for key in TRAINER_KEYS},
    **dict.fromkeys(("--epochs", "--num_epochs"), "--trainer.max_epochs"),
    **dict.fromkeys(("--lr", "--learning_rate"), "--model.lr"),
    "--batch_size": "--data.batch_size",
    **dict.fromkeys(("--checkpoint", "--ckpt"), "--ckpt_path"),
    "--encoder": "--model.encoder",
    "--weights": "--model.weights",
}


def refuse_unknown(words: Sequence[str], known: Collection[str], command: str) -> None:
    """Exit with a message if a command has no such option.

    Args:
        words: The words of a command line.
        known: All options of the command; of the classes of a configuration, only the sections.
        command: Name of the command.
    """
    for name in names_in(words):
        section, _, key = name.partition(".")
        key = key.partition(".")[0].removesuffix("+")
        if name in known or (section in known and section in ("--model", "--data")):
            continue
        if section == "--trainer" and section in known:
            if key in TRAINER_KEYS or key == "help":
                continue
            fail(unknown_option(name, [f"--trainer.{one}" for one in TRAINER_KEYS], command))
        if (option := _OPTIONS.get(name)) and (option in known or "--model" in known):
            fail(f"{name}: unknown option; did you mean {option}?")
        fail(unknown_option(name, known, command))
