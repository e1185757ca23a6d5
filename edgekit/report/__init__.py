"""Reports: one list of fields feeds every printer, and pictures go into one self-contained page."""
