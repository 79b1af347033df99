"""What a command of `sparqle` does: a file or folder each, named as the command."""
