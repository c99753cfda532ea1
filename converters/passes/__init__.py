"""Graph passes, a file each; pipeline.py has their order."""
