"""The slots of the ascent loop: start, look (gradient), direction, step size, move, variable. Each part is a frozen dataclass."""
