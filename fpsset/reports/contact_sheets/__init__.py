"""Contact sheets: all faces that were found in photos and videos, on a page to look at."""
