"""The model card of a repository of the Hugging Face hub."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from .. import __version__
from ..errors import DataError, counted
from ..mapping.planning import known_spec
from ..spec import DataSpec
from ..targets import ValueTarget
from ..tasks import PrithviTask
from .mlm import architecture

#: Kind of target -> ``pipeline_tag`` of the hub; it has none for values of pixels.
PIPELINE_TAGS = {"classes": "image-segmentation", "chip_classes": "image-classification"}
#: Arguments of a task in the recipe of a card; others are in config.json.
_RECIPE = (
    "encoder", "encoder_args", "decoder", "pooling", "freeze_encoder", "layer_decay", "drop_path", "loss",
    "class_weights", "optimizer", "lr", "weight_decay", "schedule", "warmup_steps",
)  # fmt: skip


@dataclass(frozen=True)
class CardText:
    """What only the author of a model knows.

    Attributes:
        license: Identifier of the licence of the weights on the hub, such as ``apache-2.0``.
        dataset: Name of the training data, or their identifier on the hub.
        base_model: Model on the hub whose weights were fine-tuned, if any.
        description: What the model maps.
    """

    license: str | None = None
    dataset: str | None = None
    base_model: str | None = None
    description: str | None = None


def read_metrics(path: Path) -> dict[str, Any]:
    """Read a metrics.json.

    Raises:
        DataError: The file is missing, or has no scores.
    """
    try:
        metrics: dict[str, Any] = json.loads(path.read_text())
        metrics["overall"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"metrics: {path}: is not the metrics.json of a run ({error})") from error
    return metrics


def model_card(
    task: PrithviTask, repo: str, text: CardText, metrics: Mapping[str, Any] | None, files: Sequence[str]
) -> str:
    """Write the model card: front matter in YAML, then scores, data, recipe and use in Markdown.

    Args:
        task: The task.
        repo: ``OWNER/REPOSITORY``.
        text: What the author gives.
        metrics: Content of a metrics.json; ``None`` without scores.
        files: Names of the files in the repository.

    Raises:
        ConfigError: The task has no description of its data.
    """
    spec = known_spec(task)
    sections = [
        f"# {repo.partition('/')[2]}",
        text.description or f"A model that maps {_mapped(spec)}.",
        f"Encoder and decoder: {architecture(task)}. Written by "
        f"[prithvi_tg](https://pypi.org/project/prithvi-tg/) {__version__}.",
        "## Use",
        _use(repo, files),
        "## Input and output",
        _data(spec, text, int(task.hparams.get("window") or 224)),
        "## Scores",
        _scores(metrics),
        "## Recipe",
        _recipe(task, metrics),
        "## Licence",
        _licence(text),
    ]
    front = _front_matter(repo, text, spec, metrics)
    return f"---\n{front}\n---\n\n" + "\n\n".join(sections) + "\n"


def _front_matter(repo: str, text: CardText, spec: DataSpec, metrics: Mapping[str, Any] | None) -> str:
    tag = PIPELINE_TAGS.get(spec.target.kind)
    results = None
    if metrics is not None:
        dataset = text.dataset or "training data of the author"
        results = [
            EvalResult(
                task_type=tag or "image-to-image",
                dataset_type=dataset,
                dataset_name=dataset,
                dataset_split=split,
                metric_type=name,
                metric_value=value,
            )
            for split, part in _by_split(metrics)
            for name, value in part["overall"].items()
            if value is not None
        ]
    data = ModelCardData(
        license=text.license,
        library_name="prithvi_tg",
        pipeline_tag=tag,
        base_model=text.base_model,
        datasets=[text.dataset] if text.dataset and "/" in text.dataset else None,
        tags=["earth-observation", "remote-sensing", "geospatial", "torchgeo"],
        model_name=repo.partition("/")[2] if results else None,
        eval_results=results or None,
    )  # fmt: skip
    return str(data.to_yaml())


def _mapped(spec: DataSpec) -> str:
    what = {"classes": "classes of pixels", "values": "values of pixels", "chip_classes": "classes of chips"}
    return f"{what[spec.target.kind]}: {', '.join(spec.target.names)}"


def _use(repo: str, files: Sequence[str]) -> str:
    lines = [
        "```bash",
        "pip install prithvi-tg",
        f"prithvi-tg predict SCENE.tif --ckpt_path hf://{repo}",
        "```",
        "",
        "In Python:",
        "",
        "```python",
        "from prithvi_tg import map_scene",
        "",
        f'map_scene("hf://{repo}", "SCENE.tif", "map.tif")',
        "```",
        "",
        "Files:",
        "",
        *(f"- `{name}`" for name in files),
    ]
    return "\n".join(lines)


def _data(spec: DataSpec, text: CardText, window: int) -> str:
    inputs, target = spec.input, spec.target
    mean, std = inputs.channel_mean, inputs.channel_std
    rows = [
        f"| {frame + 1} | {band} | {mean[place]:g} | {std[place]:g} |"
        for frame in range(inputs.num_frames)
        for number, band in enumerate(inputs.bands)
        for place in [frame * len(inputs.bands) + number]
    ]
    lines = [
        f"Training data: {text.dataset or 'not stated'}.",
        f"Windows of {window} x {window} pixels"
        + (f" of {inputs.pixel_size:g} m" if inputs.pixel_size else "")
        + f", {counted(inputs.num_frames, 'date')}; a reflectance of 1 is stored as "
        f"{inputs.reflectance_unit / inputs.scale:g}.",
        "",
        "| date | band | mean | standard deviation |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
    if isinstance(target, ValueTarget):
        lines += ["| value | unit |", "|---|---|"]
        lines += [
            f"| {name} | {unit or '-'} |" for name, unit in zip(target.names, target.units, strict=True)
        ]
    else:
        lines += ["| value | class |", "|---|---|"]
        lines += [f"| {value} | {name} |" for value, name in enumerate(target.names)]
    return "\n".join(lines)


def _by_split(metrics: Mapping[str, Any]) -> list[tuple[str | None, Mapping[str, Any]]]:
    """Scores of the split of a metrics.json, and of the further splits of a test."""
    return [(metrics.get("split"), metrics), *(metrics.get("further_splits") or {}).items()]


def _scores(metrics: Mapping[str, Any] | None) -> str:
    if metrics is None:
        return "No scores are stated."
    return "\n\n".join(_split_scores(split, part) for split, part in _by_split(metrics))


def _split_scores(split: str | None, metrics: Mapping[str, Any]) -> str:
    lines = [f"Split: {split or 'not stated'}.", "", "| score | value |", "|---|---|"]
    lines += [f"| {name} | {_number(value)} |" for name, value in metrics["overall"].items()]
    parts = metrics.get("per_class") or metrics.get("per_value") or {}
    if parts:
        columns = list(next(iter(parts.values())))
        lines += ["", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for name, scores in parts.items():
            lines.append(f"| {name} | {' | '.join(_number(scores.get(key)) for key in columns)} |")
    return "\n".join(lines)


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _recipe(task: PrithviTask, metrics: Mapping[str, Any] | None) -> str:
    recipe = {key: task.hparams[key] for key in _RECIPE if task.hparams.get(key) not in (None, {})}
    run = {} if metrics is None else metrics.get("run", {})
    training = run.get("training") or {}
    recipe |= {key: training[key] for key in ("epochs", "steps") if key in training}
    recipe |= {key: run[key] for key in ("seed", "precision", "device") if run.get(key) is not None}
    return "\n".join(
        ["| key | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in recipe.items())]
    )


def _licence(text: CardText) -> str:
    weights = (
        f"The weights have the licence {text.license}." if text.license else "The licence is not stated."
    )
    if text.base_model is None:
        return weights
    link = f"[{text.base_model}](https://huggingface.co/{text.base_model})"
    return f"{weights} They were fine-tuned from {link}, whose licence applies, too."
