"""What a registration climbs and what a network learns from: similarity, regularity and overlap."""
