"""SQLite: connections, epoch rows, and studies with all that decides their trials."""
