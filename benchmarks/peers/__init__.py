"""What Embedmill is measured beside: each peer in a process of its own, its program in a module of its own."""
