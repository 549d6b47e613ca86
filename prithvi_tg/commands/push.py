"""``prithvi-tg push``: the model of a checkpoint to a repository of the Hugging Face hub."""

from ..cli.table import COMMANDS
from ..exporting import CardText, push, write_folder


def run(arguments: list[str]) -> int:
    """Parse the arguments, and upload or write the folder."""
    options = COMMANDS["push"].parser().parse_args(arguments)
    text = CardText(options.license, options.dataset, options.base_model, options.description)
    formats = [f".{one.removeprefix('.')}" for one in options.formats]
    given = (options.ckpt_path, options.repo)
    if options.dry_run is not None:
        folder = write_folder(*given, options.dry_run, text, formats, options.metrics)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                print(f"Written: {path}")
    else:
        print(f"Uploaded: {push(*given, text, formats, options.metrics, options.private, options.revision)}")
    return 0
