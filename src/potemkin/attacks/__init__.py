"""Attacks: searches written as row programs (ask and tell). Import the recipes from `potemkin.attacks.recipes`."""
