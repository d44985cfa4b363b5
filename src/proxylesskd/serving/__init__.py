"""Recognition over HTTP: what it answers, what it refuses, and the processes that serve it."""
