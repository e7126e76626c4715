"""Models as an adversary may call them: the Classifier, its metered Oracle, and the loaders of the command line."""
