"""The supernet: a network whose every layer holds all candidates, what it runs in a step and how it is trained."""
