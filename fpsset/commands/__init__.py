"""The command line `fpsset`, one file per subcommand."""
