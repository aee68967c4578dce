"""From photographs to individuals."""
