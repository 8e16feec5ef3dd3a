"""Short histories of the core as text, to read and to compare. They open no socket and never wait."""
