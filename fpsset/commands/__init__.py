"""Subcommands of the command line `fpsset`, a file each."""
