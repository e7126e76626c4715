"""The slots of the ascent loop: start, gradient, direction, step size, move, variable; all frozen dataclasses."""
