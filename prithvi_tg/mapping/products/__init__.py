"""What a map consists of: rasters, polygons, a quicklook, a STAC item, an index."""
