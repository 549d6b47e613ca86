"""Scene formats of granules: HLS and Sentinel-2, with a file per band under the agency's names."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from ..errors import ConfigError, DataError
from .frames import FrameRequest, SceneFormat, SceneFrame
from .granules import Granule, hls_granule, hls_granules, is_hls_file, is_hls_prefix, safe_granule
from .grid import Grid
from .raster import open_raster
from .words import is_remote


class GranuleFormat(SceneFormat):
    """One date of one tile, whose files name their bands."""

    stacks = True

    def granule(self, path: str, request: FrameRequest) -> Granule:
        """The granule of a path."""
        raise NotImplementedError

    def tile_and_date(self, path: str) -> tuple[str, str]:
        """Tile and date from the agency's name."""
        name = self.name(path)
        tile = re.search(r"[._](T\d{2}[A-Z]{3})", name)
        moment = re.search(r"[._](\d{8}|\d{7})T\d{6}", name)
        if tile is None or moment is None:
            raise DataError(
                f"{path}: its name contains neither tile nor date; give the dates of the scene joined by commas"
            )
        form = "%Y%m%d" if len(moment.group(1)) == 8 else "%Y%j"
        return tile.group(1), datetime.strptime(moment.group(1), form).strftime("%Y%m%d")

    def open(self, path: str, request: FrameRequest) -> SceneFrame:
        """Find bands by their names; the grid is that of the finest band."""
        if request.num_frames != 1:
            raise DataError(
                f"{path}: contains one date, but the model takes {request.num_frames}; give all dates, joined by commas"
            )
        if request.bands:
            raise ConfigError(f"bands: {path} names its own bands; leave out bands")
        granule = self.granule(path, request)
        spec, unit = request.spec, request.spec.reflectance_unit
        request.refuse_offset_alone(granule.name)
        channels = tuple(
            request.with_options(replace(file, scale=file.scale * unit, offset=file.offset * unit))
            for file in granule.band_files(spec.bands)
        )
        grids = []
        for channel in channels:
            with open_raster(channel.path) as source:
                grids.append(Grid.of(source))
        finest = min(grids, key=lambda grid: abs(grid.transform.a))
        stored = (Path(channel.path).name for channel in channels)
        origin = " ".join(f"{name}={file}" for name, file in zip(spec.bands, stored, strict=True))
        return SceneFrame(finest, channels, (granule.date,), origin, granule.quality)


class HLSGranules(GranuleFormat):
    """HLS S30 and L30; a path is the common prefix of the files of a granule."""

    description = "HLS granules"

    def matches(self, path: str) -> bool:
        """Whether a path is the prefix of a granule."""
        return is_hls_prefix(path)

    def group(self, paths: Sequence[str]) -> tuple[list[str], list[str]]:
        """Granules among the files, and in the folders."""
        files = [path for path in paths if is_hls_file(path)]
        frames = self._prefixes(files)
        rest = [path for path in paths if path not in files]
        for path in list(rest):
            folder = Path(path)
            inside = (
                [str(file) for file in sorted(folder.iterdir()) if is_hls_file(file)]
                if folder.is_dir()
                else []
            )
            if inside:
                frames += self._prefixes(inside)
                rest.remove(path)
        return frames, rest

    def _prefixes(self, files: Sequence[str]) -> list[str]:
        granules = hls_granules(files)
        return [str(Path(next(iter(g.files.values())).path).parent / g.name) for g in granules if g.files]

    def granule(self, path: str, request: FrameRequest) -> Granule:
        """The granule of a prefix."""
        return hls_granule(path)


class SentinelSafe(GranuleFormat):
    """Sentinel-2 L1C and L2A in the SAFE format."""

    description = ".SAFE folders"

    def matches(self, path: str) -> bool:
        """Whether a path is a ``.SAFE`` folder."""
        return path.rstrip("/").endswith(".SAFE") and (is_remote(path) or Path(path).exists())

    def granule(self, path: str, request: FrameRequest) -> Granule:
        """The granule in a folder."""
        return safe_granule(path, request.spec.bands)
