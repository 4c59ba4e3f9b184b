"""What several tasks share, from a configuration to results in a run folder."""
