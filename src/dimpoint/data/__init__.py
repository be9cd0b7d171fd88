"""Data sets, splits and labels; masks, checks and synthetic scenes."""
