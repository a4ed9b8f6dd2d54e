"""The mathematics: it knows no file, no thread, and no library but what a backend brings."""
