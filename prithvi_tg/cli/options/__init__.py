"""Options of the commands, each added to a parser in one place, without importing what uses them."""
