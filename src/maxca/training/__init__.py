"""Training registration networks: recipes, and one loop that runs them."""
