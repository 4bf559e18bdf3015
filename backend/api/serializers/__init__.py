"""What each resource looks like."""
