"""The parts of a round: trials in flight, asking for them, recording them, their checkpoints, and the score."""
