"""Smells: reasons to distrust a number, each with what to do about it."""
