"""Adversarial training: rebuild the façade in stone."""
