"""Reports: tables, plots, pages, comparisons of runs, coreset sheets."""
