"""The command line: the parser, and a file a command."""
