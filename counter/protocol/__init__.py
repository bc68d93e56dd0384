"""What nodes say to each other, and what follows from it: pure, without I/O."""
