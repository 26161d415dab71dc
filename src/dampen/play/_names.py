"""What a lesson's choices are called; the command line knows them without loading torch."""

POINTS = ("moons", "circles", "spiral", "xor", "blobs", "curve")
"""Shapes of points."""
SURFACES = ("mean", "seeds", "dropout")
"""What a surface shows: the mean over seeds, the standard deviation over seeds, or that over Monte-Carlo dropout."""
