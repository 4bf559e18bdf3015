"""Schedules, the tick that fires them, and the ledger of what became of each occurrence. Use `scheduler.api`."""
