"""The `throughtime` command."""
