"""Commands that do not run a loop of Lightning."""
