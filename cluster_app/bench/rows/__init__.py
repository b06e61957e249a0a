"""One benchmark per module: its sides, its sizes, what is quoted and the goal. `every` has them all, in order."""
