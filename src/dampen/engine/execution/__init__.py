"""How a chunk of members runs: fused or one after the other, how many at a time, and which way is right."""
