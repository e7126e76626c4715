"""The slots of the ascent loop: start, look (gradient), direction, step size, move, variable; frozen dataclasses all."""
