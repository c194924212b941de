"""What `embedmill doctor` looks at on a machine that embeds: its devices and its model; never imports torch."""
