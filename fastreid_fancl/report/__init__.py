"""Reports on finished runs: systems over seeds, their statistics, tables and the HTML page. It starts no process."""
