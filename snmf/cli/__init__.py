"""The command line ``snmf``: its arguments, its commands, and the files it reads and writes."""
