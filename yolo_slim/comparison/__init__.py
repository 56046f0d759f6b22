"""The honest comparison: is pruning worth it on this model and data, against every simpler way to as few MACs?"""
