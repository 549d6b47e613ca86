"""Files to arrays: one rule for each question about stored values, shared by training, statistics, checks and maps."""
