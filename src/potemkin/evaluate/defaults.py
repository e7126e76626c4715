"""What is attacked with where nobody says it."""

DEFAULT_ATTACKS = ("apgd()", "apgd(objective=DLR(), targets=3)")
"""No step size to get wrong, and two objectives that fail in different ways; both exist in Linf, L2 and L1."""
