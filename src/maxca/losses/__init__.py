"""What a registration climbs: similarities, with gradients in closed form."""
