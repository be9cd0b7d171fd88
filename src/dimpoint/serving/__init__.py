"""Detection over HTTP: `dimpoint serve`."""
