"""What to try next: samplers and pruners by name, proposals that are feasible and new."""
