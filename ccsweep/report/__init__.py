"""What a run came to: report.json and a table on the terminal."""
