"""What a network does in a forward pass: where it drops units, what it calls, and which operations these are."""
