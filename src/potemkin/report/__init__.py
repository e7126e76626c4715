"""Records in, HTML and pictures out; never imports torch."""
