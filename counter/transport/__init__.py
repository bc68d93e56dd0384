"""How nodes reach each other: the contract, and every transport that keeps it."""
