"""Evaluation: audit, outcome partition, statistics, the Record and its bundle."""
