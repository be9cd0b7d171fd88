"""Models as files: the record, the input rule, names, weights and export."""
