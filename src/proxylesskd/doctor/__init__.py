"""What this installation can do: its packages, devices and speed, and what each verb lacks."""
