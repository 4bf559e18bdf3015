"""What each resource answers."""
