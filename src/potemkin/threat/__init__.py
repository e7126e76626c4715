"""What the adversary may do, wants and sees: perturbation sets, goals, objectives, access, and the threat model."""
