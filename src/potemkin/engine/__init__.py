"""The engine: keeps a batch full of jobs, believes no attack, counts everything."""
