"""An app whose tasks raise, hang, exit, crash and return nonsense."""
