"""Storage: rows in blocks (in memory, on disk, on Dask), output files, and threads."""
