"""What starts, feeds and installs a cluster on one machine; the nodes need none of it."""
