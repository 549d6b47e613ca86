"""FolderChipDataset: chips in a folder per split, the layout of published datasets."""

from collections.abc import Sequence
from pathlib import Path

from ...errors import ConfigError
from ..download import SOURCES, download_archives
from .base import ChipDataset
from .chip_files import Chip, chips_in_folder, pair_by_stem
from .split_lists import split_list


class FolderChipDataset(ChipDataset):
    """Chips in a folder per split, ``NAME_merged.tif`` beside ``NAME.mask.tif``.

    With `splits`, all folders are searched for chips. The name of a list in `split_lists` selects it.
    """

    folders: dict[str, str] = {}
    image_suffix = "_merged.tif"
    mask_suffix = ".mask.tif"
    #: Key of `SOURCES`, and the names of the archives at this address.
    source: str = ""
    archives: tuple[str, ...] = ()

    def download(self) -> None:
        """Download and unpack the published archives, if they are missing."""
        download_archives(SOURCES[self.source], self.archives, self.root)

    def find_chips(self) -> list[Chip]:
        """The chips in the folder of the split, or those in the list of `splits`.

        Raises:
            ConfigError: The split is unknown.
            DataError: The folder is empty, there is no such list, or the image or mask of a chip is missing.
        """
        if self.splits is None:
            if self.split not in self.folders:
                raise ConfigError(f"split: {self.split!r} is unknown; choose from {', '.join(self.folders)}")
            return chips_in_folder(self.root / self.folders[self.split], self.image_suffix, self.mask_suffix)
        names = self.match_names(split_list(self.resolve_splits(self.splits), self.split))
        return pair_by_stem(
            names,
            image=lambda name: self._find(f"{name}{self.image_suffix}"),
            mask=lambda name: self._find(f"{name}{self.mask_suffix}"),
        )

    def match_names(self, names: Sequence[str]) -> Sequence[str]:
        """The names of files of the chips of a list; by default the names in the list.

        Raises:
            DataError: A chip has no file.
        """
        return names

    def _find(self, name: str) -> Path:
        places = [self.root / folder / name for folder in dict.fromkeys(self.folders.values())]
        return next((path for path in places if path.exists()), places[0])
