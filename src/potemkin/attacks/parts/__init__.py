"""The slots of the ascent loop, filled: start, direction, look, step size, move, variable; all frozen dataclasses.

Importing this package registers them all, also those that no recipe uses yet.
"""

from potemkin.attacks.parts import directions, looks, moves, sparsity, starts, step_sizes, targets, variables

__all__ = ["directions", "looks", "moves", "sparsity", "starts", "step_sizes", "targets", "variables"]
