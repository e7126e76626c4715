"""The ground floor: random streams, per-row reductions, the registry and the notation. Import the modules by name."""
