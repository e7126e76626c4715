"""Data sources: where examples come from, how they are chosen, and what is refused."""
