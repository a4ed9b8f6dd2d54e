"""The mathematics of the fit. These modules use arrays only through a backend, and no files."""
