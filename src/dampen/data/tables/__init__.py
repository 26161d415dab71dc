"""Tables: from a file or a frame to numbers."""
