"""What is special to the embedded log: its files, their damage, and the death of their process."""
