"""Where results lie: folders, and the jobs that fill them."""
