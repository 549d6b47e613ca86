"""The words that named a scene, as kept beside its map: files and folders as seen from the map's folder."""

from collections.abc import Sequence
from pathlib import Path

from ..files import relative_path
from .granules import is_hls_prefix


def relative_words(frames: Sequence[str], folder: Path) -> list[str]:
    """Words of `SceneInput.frames`, local ones relative to a folder; addresses as they are."""
    return [relative_path(Path(word), folder) if _is_local(word) else word for word in frames]


def words_from(folder: Path, words: Sequence[str]) -> tuple[str, ...]:
    """The frames that `relative_words` wrote for a folder, as seen from here."""
    seen = [str(folder / word) for word in words]
    return tuple(one if _is_local(one) else word for one, word in zip(seen, words, strict=True))


def _is_local(word: str) -> bool:
    """Whether a word is a file, a folder, or what the files of a local granule have in common."""
    path = Path(word)
    return path.exists() or (is_hls_prefix(word) and path.parent.is_dir())
