"""The command line: one file a command, thin; everything heavy is imported when a command runs."""
