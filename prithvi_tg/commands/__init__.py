"""Commands that run beside the Lightning loops."""
