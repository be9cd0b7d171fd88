"""Detection on several machines with Ray Data: `dimpoint detect --ray`."""
