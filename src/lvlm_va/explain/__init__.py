"""Which images, Φ, and its segments (Sec. 4.1): sampling, attribution, PPEPS-WGM."""
