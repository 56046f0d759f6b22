"""Many networks by one recipe: what is to be measured (the cells), where it runs, and what is known already."""
