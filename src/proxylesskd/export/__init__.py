"""Room 9: files to ship, checked before they leave."""
