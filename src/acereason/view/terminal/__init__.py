"""What a run shows in a terminal: its steps while it goes on, and the table at its end."""
