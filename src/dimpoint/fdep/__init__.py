"""FDEP (arXiv 2512.05511): a frozen foundation model that teaches a host network and is gone in use."""
