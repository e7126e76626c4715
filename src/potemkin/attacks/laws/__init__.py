"""The laws that `check_attack` holds every attack to, and the toy models and rows on which it does."""
