"""Room 5: losses as pure functions of embeddings, rows and labels."""
