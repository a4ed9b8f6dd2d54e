"""Where rows and results lie: in memory, on disk, in blocks, and on which threads."""
