"""What tests of trainings need, ours and other people's."""
