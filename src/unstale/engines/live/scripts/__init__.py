"""Scripts of your own as workers: they `connect` to a server that waits for them."""
