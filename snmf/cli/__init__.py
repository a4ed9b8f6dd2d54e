"""The command line: its words, its commands, and the tables that it reads and writes."""
