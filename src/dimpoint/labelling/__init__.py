"""Label frames with one click a target, on a local page: `dimpoint label`."""
