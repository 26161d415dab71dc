"""What changes over a training: rates, decay, averages, when it ends."""
