"""Help texts of the commands that Lightning runs."""

_MORE = (
    "--skip-bad skips chips whose files cannot be read, and lists them; a missing file is an error. To list the "
    "options of a class: --model.help PrithviSegmentationTask, --data.help Sen1Floods11DataModule."
)
DESCRIPTIONS = {
    "fit": f"Train a model and write last.ckpt and best.ckpt. {_MORE}",
    "validate": f"Score a checkpoint on the validation set. {_MORE}",
    "test": f"Score a checkpoint on the test set. {_MORE}",
    "predict": "Map scenes: write NAME_pred.tif for each scene. A checkpoint of this package needs no --config.",
}

#: Arguments of the parser of each command.
SUBPARSERS = {key: {"description": text, "command": key} for key, text in DESCRIPTIONS.items()}
#: Meaning of ``--ckpt_path``, by command.
CKPT_PATH = dict.fromkeys(DESCRIPTIONS, "The weights, in any published format.") | {
    "fit": "The last.ckpt of a run to resume."
}
