"""Where counts outlive their process: the contract, and every store that keeps it."""
