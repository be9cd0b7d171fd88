"""FDEP (arXiv 2512.05511): training a host network with a frozen foundation model."""
