"""What every other package builds on: random streams, atomic files, validation."""
